"""Write files whole: each is written beside its name and then moved into place."""

import hashlib
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import BinaryIO

TEMPORARY = re.compile(r"\.robustcl-([0-9a-f]{8})-(\d+)-(\d+)-\d+\.part")
FORGOTTEN = 86_400.0  # seconds after which nobody writes to a temporary file any more
_numbers = count()
_swept: set[tuple[int, str]] = set()  # process and folder


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path`, which takes its place when the block ends without error.

    Whoever reads `path` finds the old file or the new one, never a part; that holds after a kill
    and after a power cut as well. Permissions are those of an ordinary new file (the umask's), also
    where the writer made the file anew. A link at `path` is itself replaced: what it leads to stays
    as it is. The first time that a process writes into a folder, it removes temporary files that
    dead processes left there.

    Args:
        path: The file; its folder is made where it is missing. Whether it may be replaced is the
            caller's to decide.

    Yields:
        A path in the same folder, to be written to by its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    temporary = path.parent / _new_name()
    try:
        # The name is short whatever that of `path`, and a link in its place would be refused.
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        mode = os.fstat(handle).st_mode & 0o777
        os.close(handle)
        yield temporary
        _settle(temporary, mode)
        temporary.replace(path)
    finally:
        with suppress(OSError):  # an error of the block is the one that counts
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends without error.

    Args:
        path: As for `replacing`.

    Yields:
        A binary stream.
    """
    with replacing(path) as temporary, temporary.open("wb") as stream:
        yield stream


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in UTF-8 with the newlines of `text`.

    Args:
        path: The file.
        text: Its content; half of a surrogate pair is written as its escape.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole.

    Args:
        path: The file.
        content: Its content.
    """
    with writing(path) as stream:
        stream.write(content)


def remove(path: Path) -> None:
    """Remove a file of ours; one that is not there is fine.

    Args:
        path: The file.
    """
    path.unlink(missing_ok=True)


def remove_dead_files(folder: Path, *, names: Iterable[str] = ()) -> None:
    """Remove temporary files in a folder that nobody writes to any more.

    Of this machine's processes those that are dead are known. What another machine, or this one
    before it was started anew, left in a shared folder goes when it was not written to for a day.

    Args:
        folder: The folder; nothing below it is touched.
        names: Files of ours, beside which versions 0.1 and 0.2 left `.NAME.PROCESS` and, for
            arrays, `.STEM.RANK.PROCESS.npz`.
    """
    with suppress(OSError):
        for place in list(folder.glob(".robustcl-*.part")):
            match = TEMPORARY.fullmatch(place.name)
            if match:
                own = match[1] == _machine()
                dead = own and not _alive(int(match[2]), int(match[3]))
                _remove(place, dead=dead or (not own and _is_old(place)))
        known = {re.sub(r"(\.\d+)?\.npz$", "", name) for name in names}
        for place in list(folder.glob(".*")) if known else ():
            match = re.fullmatch(r"\.(.+?)(\.\d+)+(\.npz)?", place.name)
            if match and match[1] in known:
                _remove(place, dead=_is_old(place))


def _new_name() -> str:
    process = os.getpid()
    return f".robustcl-{_machine()}-{process}-{_begun(process)}-{next(_numbers)}.part"


def _sweep(folder: Path) -> None:
    # Once per process: a folder may hold very many files.
    key = (os.getpid(), str(folder.absolute()))
    if key not in _swept:
        _swept.add(key)
        remove_dead_files(folder)


def _remove(place: Path, *, dead: bool) -> None:
    if dead:
        with suppress(OSError):  # it may be another user's
            place.unlink(missing_ok=True)


def _is_old(place: Path) -> bool:
    try:
        return time.time() - place.lstat().st_mtime > FORGOTTEN
    except OSError:
        return False


def _settle(place: Path, mode: int) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        if os.fstat(handle).st_mode & 0o777 != mode:
            place.chmod(mode)
        os.fsync(handle)
    finally:
        os.close(handle)


@cache
def _machine() -> str:
    # Process numbers mean nothing on another machine, in another container, or before a restart.
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:8]


def _begun(process: int) -> int:
    # When it was started, in ticks: a number that is used again does not keep a file alive.
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _alive(process: int, begun: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    now = _begun(process)
    return not (begun and now and begun != now)
