"""State which files a command wrote, and which names are harmless."""

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from robustcl.core import atomic
from robustcl.core.errors import RobustclError, RunError
from robustcl.core.files import objection_to_file
from robustcl.core.schema import parse
from robustcl.core.terminal import printable

LISTING = "files.json"
MARKS = {"manifest.json": "config_hash", "cell.json": "cell"}  # of ours, with a field they have
TOPS = ("report.html", "robustbench.json", "study.json", "summary.json")  # written at the end
OF_RECORDS = (b'"kind":', b'"config":', b'"index":')
BEGIN = 65_536  # bytes
PARTS = ("arrays", "figures", "robustbench", "tables", "violations")  # folders within


@dataclass(frozen=True)
class FileListing:
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


_known: dict[tuple[str, int, int, int], FileListing | None] = {}  # by state of the file


def read_listing(place: Path) -> FileListing | None:
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


def spelled(listing: FileListing) -> str:
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


def _read(place: Path) -> FileListing | None:
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        listing = parse(FileListing, content, what=LISTING, error=RunError, cure="")
    except (OSError, ValueError, RecursionError, RobustclError):
        return None
    plain = {key: value for key, value in content.items() if key != "checksum"}
    return listing if listing.checksum == _digest(plain) else None


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


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


LONGEST_LISTING = 255  # bytes of a name on every usual disk
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # of Windows


def objection_to_name(
    name: str, *, longest: int = LONGEST_LISTING, reserved: Collection[str] = ()
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
