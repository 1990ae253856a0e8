"""Tell a file from what only looks like one: a pipe, a device, a socket."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from robustcl.errors import InputError, RobustclError

KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


def objection_to_file(path: Path) -> str | None:
    """Say why a path cannot be read as a file; opening a pipe would wait for ever.

    Links are followed: one that leads to an ordinary file is fine.

    Args:
        path: The path.

    Returns:
        'does not exist', 'is a named pipe, no file' and the like; None for an ordinary file.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        broken = path.is_symlink()
        return "is a link that leads nowhere" if broken else "does not exist"
    except (OSError, ValueError) as error:  # a loop of links, a name too long, a zero byte
        return f"cannot be opened ({getattr(error, 'strerror', None) or error})"
    return _objection_to_mode(mode)


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder; one that cannot even be looked at is none.

    Args:
        path: The path.

    Returns:
        Whether it is, or leads to, a folder.
    """
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def require_file(path: Path, *, cure: str, error: type[RobustclError] = InputError) -> None:
    """Refuse a path that cannot be read as a file.

    Args:
        path: The path.
        cure: What the user can do.
        error: The exception that is raised.

    Raises:
        RobustclError: Of type `error`, when the path is no ordinary file.
    """
    found = objection_to_file(path)
    if found == "does not exist":
        raise error(f"there is no file {str(path)!r}; {cure}")
    if found is not None:
        raise error(f"{str(path)!r} {found}; {cure}")


def open_file(path: Path, *, cure: str, error: type[RobustclError] = InputError) -> BinaryIO:
    """Open an ordinary file for reading; a pipe or a device is refused and never waited for.

    What was opened is looked at, not what the name meant a moment before.

    Args:
        path: The path.
        cure: What the user can do.
        error: The exception that is raised.

    Returns:
        The stream; the caller closes it.

    Raises:
        RobustclError: Of type `error`, when the path is no ordinary file or cannot be opened.
    """
    require_file(path, cure=cure, error=error)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as wrong:
        raise error(f"{str(path)!r} cannot be opened ({wrong.strerror}); {cure}") from wrong
    found = _objection_to_mode(os.fstat(handle).st_mode)
    if found is not None:
        os.close(handle)
        raise error(f"{str(path)!r} {found}; {cure}")
    return os.fdopen(handle, "rb")


def read_file(
    path: Path, *, most: int, cure: str, error: type[RobustclError] = InputError
) -> bytes:
    """Read an ordinary file of limited size.

    Args:
        path: The path.
        most: Bytes that it may have.
        cure: What the user can do.
        error: The exception that is raised.

    Returns:
        Its content.

    Raises:
        RobustclError: Of type `error`, when the path is no ordinary file, is larger, or cannot be
            read.
    """
    with open_file(path, cure=cure, error=error) as stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            content = stream.read(most + 1) if size <= most else b""
        except OSError as wrong:
            raise error(f"{str(path)!r} cannot be read ({wrong.strerror}); {cure}") from wrong
    if size > most or len(content) > most:
        raise error(
            f"{str(path)!r} has {max(size, len(content)):,} bytes, more than the {most:,} that "
            f"are read; {cure}"
        )
    return content


def _objection_to_mode(mode: int) -> str | None:
    if stat.S_ISREG(mode):
        return None
    kind = next((name for test, name in KINDS if test(mode)), "something else")
    return f"is {kind}, no file"
