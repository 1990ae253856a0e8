"""Write to the terminal: the only place that does, so that no text of a file acts on it."""

import json
import sys
import warnings
from collections.abc import Mapping
from typing import Any, TextIO

from robustcl.core.printable import printable

LONGEST = 1600  # characters of a line


def say(text: str) -> None:
    """Write progress or a warning for people, on stderr.

    Args:
        text: The line; what is not printable is escaped.
    """
    _write(sys.stderr, line_of(text))


def answer(text: str, *, json: bool = False) -> None:
    """Write a line of a command's answer on stdout, or on stderr beside a JSON object.

    Args:
        text: The line; what is not printable is escaped.
        json: Whether stdout is for one JSON object.
    """
    _write(sys.stderr if json else sys.stdout, line_of(text))


def emit(content: Mapping[str, Any]) -> None:
    """Write one JSON object on stdout.

    Args:
        content: Plain values.
    """
    # JSON escapes every sign beyond ASCII, and of those within it all but this one.
    _write(sys.stdout, json.dumps(dict(content), default=str).replace("\x7f", "\\u007f"))


def say_lines(text: str) -> None:
    """Write text of several lines on stderr, as of a traceback.

    Args:
        text: The lines.
    """
    for line in text.splitlines():
        say(line)


def line_of(text: str) -> str:
    """Show text in one printable line that is not endless.

    Args:
        text: Any text.

    Returns:
        The line; of a very long one its begin and its end.
    """
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    return printable(text)


def tame_warnings() -> None:
    """Show warnings of libraries as one printable line each, and none of the image decoder.

    What is wrong with an image is an error of ours or does not matter; a damaged one makes the
    decoder warn thousands of times.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        del filename, lineno, file, line
        say(f"warning: {category.__name__}: {message}")

    warnings.showwarning = show


def _write(stream: TextIO, line: str) -> None:
    # A terminal of an old encoding lacks some letters, which are no reason to stop.
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
