"""Turn whatever ends a command into one line on stderr and the exit code that means it."""

import os
import shlex
import sys
import tempfile
import traceback
from contextlib import suppress

from robustcl.core.environment import environment_failure, is_bad_path
from robustcl.core.stopping import say_stopped, stop_code
from robustcl.core.streams import stdout_is_pipe
from robustcl.core.terminal import say, say_lines
from robustcl.errors import RobustclError, ViolationError

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
