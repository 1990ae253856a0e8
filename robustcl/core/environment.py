"""Recognize what the environment did: a full disk, a permission, a closed pipe, memory."""

import errno
import os
import re
from collections.abc import Iterator

from robustcl.core.errors import CheckpointError, InputError, RobustclError
from robustcl.core.memory import is_out_of_memory

# What a path that the user named can be at fault for.
BAD_PATH = frozenset({
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
})
# Numbers for which there is no other reading than that the environment failed.
FAILURES = frozenset({
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EPIPE),
    *(errno.EMFILE, errno.ENFILE, errno.EFBIG, errno.ESTALE, errno.ENOLCK, errno.ETIMEDOUT),
    *(errno.ENXIO, errno.ENODEV, errno.EBADF, errno.ECONNRESET, errno.ECONNREFUSED),
    *(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENOTCONN, errno.ENOMEM),
})
_MEMORY = "memory ran out; use a smaller --batch-size or --limit"
# Libraries in Rust and C++ name the number in their texts: "(os error 28)", "[Errno 28]".
_NUMBER = re.compile(r"\(os error (\d+)\)|\berrno:? (\d+)\b", re.IGNORECASE)
# Of writers that lose it: NumPy's `tofile`, torch's and Pillow's; and of Python's threads.
_NUMBERLESS = re.compile(
    r"\d+ requested and \d+ written|PytorchStreamWriter failed|file write failed|"
    r"encoder error -\d+ when writing|iostream error|can't start new thread"
)
_TEXTS = {os.strerror(number).lower(): number for number in (*FAILURES, *BAD_PATH)}
_WRAPPERS = ("SafetensorError", "ArrowException", "ArrowInvalid")


def environment_failure(error: BaseException) -> str | None:
    """Say in one sentence what the environment did, where that is why an error was raised.

    Looked at are the error and what it was raised from, also inside libraries that wrap it.

    Args:
        error: The error.

    Returns:
        The sentence; None where the environment is not to blame, as for a path that is not there.
    """
    for cause in causes(error):
        if is_out_of_memory(cause):
            if isinstance(error, InputError | CheckpointError):
                return None  # what was asked for would fit into no memory
            return str(error) if isinstance(error, RobustclError) else _MEMORY
        if _failed(cause, strict=cause is not error):
            text, said = str(cause) or type(cause).__name__, str(error)
            reason = getattr(cause, "strerror", None) or text
            told = cause is error or text in said or reason in said
            return said or text if told else f"{error} ({text})"
    return None


def is_bad_path(error: BaseException) -> bool:
    """Tell whether a path that the user named is at fault.

    Args:
        error: The error.

    Returns:
        Whether it is missing, a folder where a file is meant, and the like.
    """
    return system_number(error) in BAD_PATH


def system_number(error: BaseException) -> int | None:
    """Read the system's error number, also where a library hides it in a text.

    Args:
        error: The error.

    Returns:
        The number; None where none is named.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    wrapped = isinstance(error, OSError | RuntimeError | ImportError)
    if not wrapped and type(error).__name__ not in _WRAPPERS:
        return None  # a text of ours, or of a file's
    text = str(error)
    found = _NUMBER.search(text)
    if found:
        return int(found[1] or found[2])
    return next((number for said, number in _TEXTS.items() if said in text.lower()), None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, one after the other.

    Args:
        error: The error.

    Yields:
        The error first. What was merely being handled when another error was raised is no cause.
    """
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        reason = getattr(one, "reason", None)  # of urllib's errors
        one = one.__cause__ or (reason if isinstance(reason, BaseException) else None)


def _failed(error: BaseException, *, strict: bool) -> bool:
    # Of what a message of ours was raised from, only numbers count that have no other reading: a
    # damaged file can make a reader ask the system for nonsense.
    number = system_number(error)
    if number is not None:
        return number in FAILURES or not (strict or number in BAD_PATH)
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and type(error).__module__ == "urllib.error":
        return True  # a download that failed
    wrapped = isinstance(error, OSError | RuntimeError)
    return wrapped and bool(_NUMBERLESS.search(str(error)))
