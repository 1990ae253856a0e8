"""Turn signals that end a process into an exception, so that every `finally` block is run."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from robustcl.core.terminal import say

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
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
    for name in NAMES:
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
