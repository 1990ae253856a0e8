"""Write files whole: each is written beside its name and then moved into place."""

import hashlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

TEMPORARY = re.compile(r"\.robustcl-([0-9a-f]{8})-(\d+)-\d+\.part")
_numbers = count()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path`, which takes its place when the block ends without error.

    Whoever reads `path` finds the old file or the new one, never a part; that holds after a kill
    and after a power cut as well. Permissions are those of an ordinary new file (the umask's), also
    where the writer made the file anew. Temporary files that dead processes of this machine left in
    the folder are removed.

    Args:
        path: The file; its folder is made where it is missing. Whether it may be replaced is the
            caller's to decide.

    Yields:
        A path in the same folder, to be written to by its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_dead_files(path.parent)
    temporary = path.parent / f".robustcl-{_machine()}-{os.getpid()}-{next(_numbers)}.part"
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    mode = os.fstat(handle).st_mode & 0o777
    os.close(handle)
    try:
        yield temporary
        _settle(temporary, mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in UTF-8 with the newlines of `text`.

    Args:
        path: The file.
        text: Its content.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole.

    Args:
        path: The file.
        content: Its content.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def remove_dead_files(folder: Path) -> None:
    """Remove temporary files in a folder whose process on this machine is no more.

    Args:
        folder: The folder; nothing below it is touched.
    """
    for place in folder.glob(".robustcl-*.part"):
        match = TEMPORARY.fullmatch(place.name)
        if match and match[1] == _machine() and not _alive(int(match[2])):
            place.unlink(missing_ok=True)


def _settle(place: Path, mode: int) -> None:
    place.chmod(mode)
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@cache
def _machine() -> str:
    # Process numbers mean nothing on another machine, or in another container on this one.
    space = Path("/proc/self/ns/pid")
    name = socket.gethostname() + (os.readlink(space) if space.is_symlink() else "")
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
