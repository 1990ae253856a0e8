"""Open and read files that are what they seem."""

import json
import os
import re
import stat
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from robustcl.core.errors import InputError, RobustclError

_KINDS = (
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
    kind = next((name for test, name in _KINDS if test(mode)), "something else")
    return f"is {kind}, no file"


MOST_JSON = 32_000_000  # bytes; the manifest of a run on all of ImageNet has about half
MOST_TOML = 200_000  # bytes
MOST_DOTS = 200  # in a line of TOML: the reader's memory grows with the square of a key's parts
MOST_PARTS = (
    1_000_000  # tables and lists in a file, each of which takes 25 times its text in memory
)
QUOTED = re.compile(r""""(?:\\.|[^"\\])*"|'[^']*'""")  # dots in quotes part no key


def read_bytes(path: Path, *, most: int) -> bytes:
    """Read an ordinary file of bounded size.

    Args:
        path: The file.
        most: Bytes that it may have.

    Returns:
        Its content.

    Raises:
        ValueError: In words that follow the file's name, when it is absent, a pipe or a device, too
            large, or not to be read.
    """
    objection = objection_to_file(path)
    if objection:
        raise ValueError(objection)
    try:
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    if len(content) > most:
        raise ValueError(f"is longer than {most:,} bytes, which no file of this kind is")
    return content


def read_text(path: Path, *, most: int) -> str:
    """Read a text file of bounded size.

    Args:
        path: The file, in UTF-8.
        most: Bytes that it may have.

    Returns:
        Its text.

    Raises:
        ValueError: In words that follow the file's name.
    """
    try:
        return read_bytes(path, most=most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"is no text in UTF-8 ({error.reason} at byte {error.start})") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        ValueError: In words that follow the file's name, also where it is no JSON.
    """
    return parse_json(read_text(path, most=MOST_JSON))


def parse_json(text: str) -> Any:
    """Read JSON. NaN and infinity are read, as Python writes them: schemas refuse them.

    Args:
        text: The text.

    Returns:
        Its content.

    Raises:
        ValueError: In words that follow the name of what the text is, when it is no JSON, a table
            has a key twice, it is nested too deeply, or it has too many parts.
    """
    _check_parts(text)
    return _parsed(text, "JSON", lambda: json.loads(text, object_pairs_hook=_once))


def read_toml(path: Path, *, most: int = MOST_TOML) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: The file.
        most: Bytes that it may have.

    Returns:
        Its content.

    Raises:
        ValueError: In words that follow the file's name, also where it is no TOML.
    """
    text = read_text(path, most=most)
    if any(QUOTED.sub("", line).count(".") > MOST_DOTS for line in text.split("\n")):
        raise ValueError(f"has a line with more than {MOST_DOTS} dots")
    return _parsed(text, "TOML", lambda: tomllib.loads(text))


def _parsed(text: str, form: str, reader: Callable[[], Any]) -> Any:
    try:
        return reader()
    except RecursionError:
        raise ValueError(f"is {form} that is nested too deeply") from None
    except ValueError as error:  # also a whole number of more than 4300 digits
        reason = str(error).partition("; use sys.")[0]
        raise ValueError(f"is not {form} ({reason})" if text.strip() else "is empty") from error


def _check_parts(text: str) -> None:
    if text.count("{") + text.count("[") > MOST_PARTS:
        raise ValueError(f"has more than {MOST_PARTS:,} tables and lists")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"key {twice[:80]!r} comes twice")
    return found
