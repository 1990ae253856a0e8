"""Know when a command began, as a run that has minutes counts from there."""

import time

_STARTED = [time.monotonic()]


def restart() -> None:
    """Begin a command within a process that has been at work before."""
    _STARTED[0] = time.monotonic()


def started() -> float:
    """Tell when the command began.

    Returns:
        As `time.monotonic` gives it.
    """
    return _STARTED[0]
