"""Write to terminals, pipes and files."""

import errno
import io
import json
import os
import stat
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    r"""Escape what is no visible character, as `repr` does, but without quotes.

    A file name or a class name may hold escape sequences that move the cursor, recolor what follows
    or change the title of the window, marks that turn the direction of reading, or newlines that
    look like a message of ours.

    Args:
        text: Any text; half of a surrogate pair, as in a file name that is not UTF-8, is allowed.

    Returns:
        One line in which control characters, separators other than a space, and marks without a
        shape are written as \n, \x1b, \u202e and so on.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    if sign in _NAMED:
        return _NAMED[sign]
    code = ord(sign)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


def prepare_streams() -> None:
    """Make stdout and stderr take any text, whatever their encoding.

    A stream that is closed from the start leaves its number to the next file that is opened, into
    which messages of libraries would then go; so the number is taken. Without stderr messages are
    lost, but the work goes on.

    Raises:
        OSError: When stdout is closed, so that the answer would be lost.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _take_numbers()
    if sys.stderr is None or not _takes(sys.stderr):
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 lives as the process
    if sys.stdout is None or not _takes(sys.stdout):
        raise OSError(errno.EBADF, "stdout is closed; give it somewhere to go, as in >/dev/null")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_streams() -> OSError | None:
    """Write what is still held back, so that nothing is left to fail when Python exits.

    Returns:
        What stdout's failure was; None where all was written. What cannot be written is dropped.
    """
    failure = None
    for stream in (sys.stdout, sys.stderr):
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except OSError as error:
            failure = failure or (error if stream is sys.stdout else None)
            with suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
    return failure


def stdout_is_pipe() -> bool:
    """Tell whether another program reads what is written on stdout.

    Returns:
        True for a pipe or a socket.
    """
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except (OSError, ValueError, AttributeError):  # closed, or no file
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _takes(stream: TextIO) -> bool:
    # The number of a closed stream may be that of a file to read: a shell opens its script so.
    try:
        number = stream.fileno()
    except (OSError, ValueError, AttributeError):  # no file
        return True
    try:
        os.write(number, b"")
    except OSError as error:
        return error.errno != errno.EBADF
    return True


def _take_numbers() -> None:
    # The lowest free number is given to each file that is opened.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


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
