"""Write JSON files whole, and with a checksum that tells whether they were changed since."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustcl.core.errors import RunError
from robustcl.core.files import read_json
from robustcl.core.output_folder import OutputFolder
from robustcl.core.schema import LONGEST_TEXT, objection_to_values
from robustcl.core.terminal import printable

CHECKSUM = "checksum"


def write_json(place: Path, content: Mapping[str, Any]) -> None:
    """Write JSON so that the file is either the old one or the new one.

    Args:
        place: The file, at the top of an output folder.
        content: Plain values.
    """
    OutputFolder(place.parent).write_text(place.name, json_text(content))


def json_text(content: Mapping[str, Any]) -> str:
    """Spell JSON as files have it.

    Args:
        content: Plain values.

    Returns:
        The text, with its end.
    """
    return json.dumps(content, indent=1, default=str) + "\n"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add the checksum of everything else.

    Args:
        content: Plain values; an earlier checksum is replaced.

    Returns:
        The content as JSON gives it back, with its checksum.
    """
    plain = json.loads(json.dumps(dict(content), default=str))
    plain.pop(CHECKSUM, None)
    return {**plain, CHECKSUM: _digest(plain)}


def write_sealed(place: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with a checksum.

    Args:
        place: The file.
        content: Plain values.
    """
    write_json(place, sealed(content))


def read_sealed(place: Path, *, cure: str, required: bool = False) -> dict[str, Any]:
    """Read a JSON object and compare its checksum, where it has one.

    Args:
        place: The file, which is there.
        cure: What the user can do about a damaged file.
        required: Whether a file without a checksum is refused; older versions wrote none.

    Returns:
        The content, with its checksum.

    Raises:
        RunError: When the file is no JSON object, or was changed after it was written.
    """
    try:
        content = read_json(place)
    except ValueError as error:
        raise RunError(f"{str(place)!r} {error}; {cure}") from error
    if not isinstance(content, dict):
        raise RunError(f"{str(place)!r} is a {type(content).__name__} in JSON, no table; {cure}")
    # Of measurements some may be infinite.
    wrong = objection_to_values(content, finite=False)
    if wrong:
        raise RunError(f"{str(place)!r} is not usable: {printable(wrong[:LONGEST_TEXT])}; {cure}")
    known = content.get(CHECKSUM)
    if known is None:
        if required:
            raise RunError(f"{str(place)!r} has lost its checksum; {cure}")
        return content
    found = _digest({key: value for key, value in content.items() if key != CHECKSUM})
    if known != found:
        raise RunError(
            f"{str(place)!r} was changed after it was written (its checksum is "
            f"{str(known)[:60]!r}, its content has {found!r}); {cure}"
        )
    return content


def _digest(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
