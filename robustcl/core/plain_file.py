"""Read JSON and TOML of others: bounded in size and depth, each key once, one sentence of fault."""

import json
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from robustcl.core.regular_file import objection_to_file

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
