"""Keep standard streams from ending a command in a way that its exit code does not tell."""

import errno
import io
import os
import stat
import sys
from contextlib import suppress
from typing import TextIO


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
