"""Let one process at a time change a folder."""

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from robustcl.core import atomic
from robustcl.core.errors import RunError
from robustcl.core.terminal import printable, say

_Result = TypeVar("_Result")
FIRST = 5.0  # seconds until something is said; then the times are doubled


def patiently(work: Callable[[], _Result], *, what: str, first: float = FIRST) -> _Result:
    """Do something that reads files, and say on stderr when it takes long.

    The work is done in a thread of its own: a read that hangs in the system cannot be interrupted,
    but waiting for it can, so that Ctrl-C ends the program. For commands; a library says nothing.

    Args:
        work: What is done.
        what: What is read, for the message.
        first: Seconds until the first message.

    Returns:
        The result of the work; what it raises is raised.
    """
    found: list[_Result] = []
    failed: list[BaseException] = []
    done = threading.Event()
    context = copy_context()

    def run() -> None:
        try:
            found.append(context.run(work))
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            failed.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="patient", daemon=True).start()
    passed, until = 0.0, first
    while not done.wait(until - passed):
        say(f"still reading {what!r} after {until:g} s; Ctrl-C ends it")
        passed, until = until, 2 * until
    if failed:
        raise failed[0]
    return found[0]


_PATIENCE = 600.0  # seconds; a change takes milliseconds
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Let one process at a time change what several write; a process may enter it again.

    Args:
        folder: The output folder; it is made where it is missing. Where the change fails in a
            folder without a lock, as in one of somebody else, none is left.

    Yields:
        Nothing.

    Raises:
        RunError: When the disk has no locks, or another process keeps the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def busy() -> str:
        return f"{str(folder)!r} has been locked for {_PATIENCE:.0f} s by a process that hangs"

    place = folder / ".lock"
    new = not os.path.lexists(place)
    try:
        with _locked(place, busy, timeout=_PATIENCE, reentrant=True):
            yield
    except RunError:
        if new:
            with suppress(OSError):
                place.unlink(missing_ok=True)
        raise


@contextmanager
def session_lock(stem: Path, what: str) -> Iterator[None]:
    """Keep other sessions out until the block ends; the lock of a dead process does not count.

    Args:
        stem: The lock is STEM.lock, and STEM says who holds it; both are removed at the end.
        what: What is in use, for the message.

    Yields:
        Nothing.

    Raises:
        RunError: When another session holds the lock, which is named, or the disk has no locks.
    """
    lock, made = stem.with_name(f"{stem.name}.lock"), not stem.parent.exists()
    stem.parent.mkdir(parents=True, exist_ok=True)

    def busy() -> str:
        return f"{what} is in use by {_holder(stem)}"

    with _locked(lock, busy, timeout=0.0):
        begun = datetime.now().astimezone().isoformat(timespec="seconds")
        try:
            atomic.write_text(
                stem, f"process {os.getpid()} on {socket.gethostname()} since {begun}"
            )
            yield
        finally:
            for place in (stem, lock):  # while it is held, and nobody ever waits for it
                with suppress(OSError):
                    place.unlink(missing_ok=True)
            if made:
                with suppress(OSError):  # where nothing came of it
                    stem.parent.rmdir()


@contextmanager
def _locked(
    place: Path, busy: Callable[[], str], *, timeout: float, reentrant: bool = False
) -> Iterator[None]:
    if place.is_symlink() or (os.path.lexists(place) and not place.is_file()):
        raise RunError(f"{str(place)!r} is no ordinary file, so it is no lock; remove it")
    lock = FileLock(place, timeout=timeout, is_singleton=reentrant)
    try:
        lock.acquire()
    except Timeout:  # no failure of the environment, as the system's time-outs are
        raise RunError(f"{busy()}; wait until it has ended, or stop it") from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        raise RunError(
            f"{str(place)!r} cannot be locked ({getattr(error, 'strerror', None) or error}): the "
            "disk has no file locks; give an --out on another disk"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _holder(stem: Path) -> str:
    try:
        with stem.open(encoding="utf-8", errors="replace") as stream:
            return printable(stream.read(200)) or "another process"
    except OSError:
        return "another process"
