"""Compare what lies around a command before and after it."""

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

OWN = ".fuzz"  # output of the command, and its temporary folder
MOST = 2**22  # bytes of a file that are read


def snapshot(folder: Path, *, without: Sequence[str] = ()) -> dict[str, str]:
    """Describe everything in a folder: kind, permissions, time, content; links are not followed.

    Args:
        folder: The folder.
        without: Names in it that are left out, with all below them.

    Returns:
        By relative path.
    """
    found = {}
    for root, folders, files in os.walk(folder):
        where = Path(root).relative_to(folder)
        for name in list(folders):
            if str(where / name) in (OWN, *without):
                folders.remove(name)
        for name in (*folders, *files):
            relative = str(where / name)
            if relative not in (OWN, *without):
                found[relative] = _described(Path(root) / name)
    return found


def difference(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """List what changed.

    Args:
        before: As `snapshot` gives it.
        after: Likewise.

    Returns:
        A word per path.
    """
    said = []
    for path in sorted({*before, *after}):
        if path not in after:
            said.append(f"{path!r} was removed")
        elif path not in before:
            said.append(f"{path!r} was made")
        elif before[path] != after[path]:
            said.append(f"{path!r} was changed")
    return said


def _described(place: Path) -> str:
    about = place.lstat()
    if stat.S_ISLNK(about.st_mode):
        return f"link to {os.readlink(place)}"
    if stat.S_ISDIR(about.st_mode):
        return f"folder {about.st_mode:o}"
    if not stat.S_ISREG(about.st_mode):
        return f"other {about.st_mode:o}"
    digest = ""
    if about.st_size <= MOST:
        digest = hashlib.sha256(place.read_bytes()).hexdigest()
    return f"file {about.st_mode:o} {about.st_size} {about.st_mtime_ns} {digest}"
