"""Tell the name of a file from a path, and from names that not every disk keeps."""

import os
import re
from collections.abc import Collection

LONGEST = 255  # bytes of a name on every usual disk
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # of Windows


def objection_to_name(
    name: str, *, longest: int = LONGEST, reserved: Collection[str] = ()
) -> str | None:
    """Say why a text cannot name one file or folder on every system.

    Args:
        name: The text.
        longest: Bytes that it may have.
        reserved: Names that are taken, whatever their case.

    Returns:
        'is empty', 'leads out of the folder' and the like; None for a plain name.
    """
    if not name:
        return "is empty"
    if name in (".", ".."):
        return "leads out of the folder"
    if "/" in name or "\\" in name or (len(name) > 1 and name[1] == ":" and name[0].isalpha()):
        return "is a path, no name"
    if not name.isprintable():
        return "has a sign that cannot be shown"
    if name[0] in ".-~ " or name[-1] in ". ":
        return f"begins with {name[0]!r}" if name[0] in ".-~ " else f"ends with {name[-1]!r}"
    if len(os.fsencode(name)) > longest:
        return f"is longer than {longest} bytes"
    if DEVICES.fullmatch(name) or name.casefold() in {word.casefold() for word in reserved}:
        return "is reserved"
    return None
