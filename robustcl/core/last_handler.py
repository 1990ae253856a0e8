"""Stop on signals, and turn what is unexpected into one line."""

import os
import shlex
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from robustcl.core.environment import environment_failure, is_bad_path
from robustcl.core.errors import RobustclError, ViolationError
from robustcl.core.terminal import say, say_lines, stdout_is_pipe

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
GRACE = 2.0  # seconds: a terminal and torchrun send one signal each for the same Ctrl-C
DEFAULT = (signal.SIG_DFL, signal.default_int_handler)


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end.

    It is a KeyboardInterrupt, so that libraries let it through as they let Ctrl-C through.

    Args:
        number: The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def stop_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a command that a signal ended.

    Args:
        stop: What was raised; a KeyboardInterrupt of Python itself is a SIGINT.

    Returns:
        128 + the signal's number.
    """
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


@contextmanager
def signals_stop(*, at_end: bool = False) -> Iterator[None]:
    """Raise `Stopped` in the main thread for SIGINT, SIGTERM and SIGHUP while the block runs.

    Signals that are ignored (as by nohup) or that the caller handles are left as they are. Further
    signals within two seconds are taken for the same request, so that cleaning up is not cut short.
    A later one ends the process at once: whatever is on the disk is whole, as after a kill.

    Args:
        at_end: Whether the process ends after the block: what it came to is then what it says, and
            a signal no longer changes it.

    Yields:
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        now = time.monotonic()
        if not first:
            first.append(now)
            raise Stopped(number)
        if now - first[0] > GRACE:
            with suppress(OSError):
                os.write(2, b"stopped at once\n")
            os._exit(128 + number)

    before = {}
    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in DEFAULT:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if at_end else handler)


def say_stopped(stop: KeyboardInterrupt) -> None:
    """Say on stderr which signal ended the command, where nothing else was said.

    Args:
        stop: What was raised.
    """
    name = str(stop) if isinstance(stop, Stopped) else "SIGINT"
    with suppress(OSError, ValueError):  # the terminal may be gone
        say("interrupted" if name == "SIGINT" else f"interrupted by {name}")


VIOLATION, BAD_INPUT, PART_FAILED, UNEXPECTED, ENVIRONMENT = 1, 2, 4, 5, 6


def exit_code(error: BaseException) -> int:
    """Say on stderr in one line why a command ended, and return its exit code.

    Args:
        error: What left the command.

    Returns:
        1 for a violation, 2 for bad input, 6 where the environment failed (disk, permission, closed
        pipe, memory), 128 + signal where one ended the command, and 5 for anything unexpected,
        whose traceback is saved.
    """
    if isinstance(error, SystemExit):
        return _of_exit(error)
    if isinstance(error, KeyboardInterrupt):
        say_stopped(error)
        return stop_code(error)
    if isinstance(error, ViolationError):
        _say(str(error))
        return VIOLATION
    if isinstance(error, BrokenPipeError) and stdout_is_pipe():
        return ENVIRONMENT  # whoever read stdout is gone, and wants no more
    failure = environment_failure(error)
    if failure is not None:
        _say(failure)
        return ENVIRONMENT
    if isinstance(error, RobustclError) or is_bad_path(error):
        _say(str(error))
        return BAD_INPUT
    _say(f"unexpected {type(error).__name__}: {error}; please report it with {_kept(error)}")
    return UNEXPECTED


def _of_exit(error: SystemExit) -> int:
    # Of the command line's reader: 0 after help, 2 after a mistake, which it has said itself. Rich
    # ends so with 1 where stdout's reader is gone, and other libraries where they please.
    if error.code in {None, 0}:
        return 0
    if error.code == BAD_INPUT:
        return BAD_INPUT
    if isinstance(error.__context__, BrokenPipeError):
        return ENVIRONMENT
    _say(f"unexpected exit with {error.code!r}; please report it with {_kept(error)}")
    return UNEXPECTED


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # stderr may be what failed
        say(f"error: {text}")


def _kept(error: BaseException) -> str:
    # The traceback goes where temporary files go, never into the folder the command is run in.
    text = "".join(traceback.format_exception(error))
    try:
        if _is_last_resort(tempfile.gettempdir()):
            raise OSError("there is no folder for temporary files")
        handle, place = tempfile.mkstemp(prefix="robustcl-traceback-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{shlex.join(sys.argv)}\nPython {sys.version}\n\n{text}")
    except OSError:
        with suppress(OSError, ValueError):
            say_lines(text)
        return "the traceback above"
    return f"the traceback in {place}"


def _is_last_resort(folder: str) -> bool:
    # Where nothing else can be written to, `tempfile` takes the current folder.
    chosen = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    return folder == os.getcwd() and folder not in (*chosen, "/tmp", "/var/tmp", "/usr/tmp")
