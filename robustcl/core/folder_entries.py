"""Look at what is where an output folder is to be."""

import os
import re
from collections.abc import Collection
from pathlib import Path

from robustcl.core import atomic
from robustcl.core.printable import printable

# Belongs to the system, or to locks of ours that a kill left.
ALIEN = re.compile(r"\.lock|\.session-\d+(\.lock)?|\.DS_Store|lost\+found|\.nfs[0-9a-f]+")


def objection_to_root(root: Path) -> str | None:
    """Say why no folder can be at a path.

    Args:
        root: The path; it may be a link to a folder.

    Returns:
        What is in the way, and the cure; None where nothing is.
    """
    if "\0" in str(root):
        return "has a zero byte, which no path may have; give another --out"
    nearest = root
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if nearest.is_dir():
        return None
    what = "is a link that leads nowhere" if nearest.is_symlink() else "is a file"
    where = "" if nearest == root else f"cannot be a folder: {str(nearest)!r} "
    return f"{where}{what}; give another --out"


def foreign_entry(root: Path, listed: Collection[str]) -> str | None:
    """Name a file or a link in a folder that is not ours; links are not followed.

    Args:
        root: The folder.
        listed: Names of files that are ours.

    Returns:
        What was found, and the cure; None where nothing was.
    """
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted((*files, *links)):
            known = (Path(folder) / name).relative_to(root).as_posix()
            alien = atomic.TEMPORARY.fullmatch(name) or ALIEN.fullmatch(name)
            if known not in listed and not alien:
                return (
                    f"holds {printable(repr(known))}, which robustcl did not write; give a new or "
                    "empty --out"
                )
    return None
