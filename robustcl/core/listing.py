"""List the files of an output folder that are ours."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from robustcl.core.regular_file import objection_to_file
from robustcl.core.schema import parse
from robustcl.errors import RobustclError, RunError

LISTING = "files.json"
MARKS = {"manifest.json": "config_hash", "cell.json": "cell"}  # of ours, with a field they have
TOPS = ("report.html", "robustbench.json", "study.json", "summary.json")  # written at the end
OF_RECORDS = (b'"kind":', b'"config":', b'"index":')
BEGIN = 65_536  # bytes
PARTS = ("arrays", "figures", "robustbench", "tables", "violations")  # folders within


@dataclass(frozen=True)
class Listing:
    """Say which files of a folder are ours.

    Args:
        files: Written by this version or a later one.
        found: Were there before there was a list.
        schema: 1.
        checksum: Of the rest.
    """

    files: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    schema: int = 1
    checksum: str = ""


_known: dict[tuple[str, int, int, int], Listing | None] = {}  # by state of the file


def read_listing(place: Path) -> Listing | None:
    """Read a list.

    Args:
        place: The file, an ordinary one.

    Returns:
        The list; None where the file is damaged or something else.
    """
    state = place.stat()
    key = (str(place.absolute()), state.st_ino, state.st_mtime_ns, state.st_size)
    if key not in _known:
        if len(_known) > 100:
            _known.clear()
        _known[key] = _read(place)
    return _known[key]


def spelled(listing: Listing) -> str:
    """Spell a list with its checksum.

    Args:
        listing: The list.

    Returns:
        The content of its file.
    """
    content = {"files": sorted(listing.files), "found": sorted(listing.found), "schema": 1}
    return json.dumps({**content, "checksum": _digest(content)}, indent=1) + "\n"


def has_mark(root: Path) -> bool:
    """Tell whether a folder carries a manifest of ours.

    Args:
        root: The folder.

    Returns:
        Whether a manifest, or the state of a suite's cell, can be read there.
    """
    for name, field in MARKS.items():
        place = root / name
        if odd(place, folder=False) is None and place.exists():
            with suppress(OSError, ValueError, RecursionError):
                content = json.loads(place.read_text(encoding="utf-8"))
                if isinstance(content, dict) and field in content:
                    return True
    return False


def are_records(place: Path) -> bool:
    """Tell whether a file holds records of a run, whose manifest may be lost.

    Args:
        place: The file.

    Returns:
        Whether its begin has what every record has.
    """
    if odd(place, folder=False) is not None:
        return False
    try:
        with place.open("rb") as stream:
            begin = stream.read(BEGIN)
    except OSError:
        return False
    return all(field in begin for field in OF_RECORDS)


def odd(place: Path, *, folder: bool) -> str | None:
    """Say why nothing of ours can lie at a path.

    Args:
        place: The path.
        folder: Whether it is to be a folder.

    Returns:
        'is a link' and the like; None where it can, or nothing is there.
    """
    if not os.path.lexists(place):
        return None
    if place.is_symlink():
        return "is a link"
    if folder:
        return None if place.is_dir() else "is no folder"
    return objection_to_file(place)


def free_place(root: Path, name: str) -> Path:
    """Find a name that is not taken.

    Args:
        root: The folder.
        name: The name, to which a number is added where it is taken.

    Returns:
        The path.
    """
    places = (root / (f"{name}.{n}" if n > 1 else name) for n in count(1))
    return next(place for place in places if not os.path.lexists(place))


def _read(place: Path) -> Listing | None:
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        listing = parse(Listing, content, what=LISTING, error=RunError, cure="")
    except (OSError, ValueError, RecursionError, RobustclError):
        return None
    plain = {key: value for key, value in content.items() if key != "checksum"}
    return listing if listing.checksum == _digest(plain) else None


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
