"""Wait for files that may never come, as on a dead mount, and say so."""

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

from robustcl.core.terminal import say

Result = TypeVar("Result")
FIRST = 5.0  # seconds until something is said; then the times are doubled


def patiently(work: Callable[[], Result], *, what: str, first: float = FIRST) -> Result:
    """Do something that reads files, and say on stderr when it takes long.

    The work is done in a thread of its own: a read that hangs in the system cannot be interrupted,
    but waiting for it can, so that Ctrl-C ends the program. For commands; a library says nothing.

    Args:
        work: What is done.
        what: What is read, for the message.
        first: Seconds until the first message.

    Returns:
        The result of the work; what it raises is raised.
    """
    found: list[Result] = []
    failed: list[BaseException] = []
    done = threading.Event()
    context = copy_context()

    def run() -> None:
        try:
            found.append(context.run(work))
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            failed.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="patient", daemon=True).start()
    passed, until = 0.0, first
    while not done.wait(until - passed):
        say(f"still reading {what!r} after {until:g} s; Ctrl-C ends it")
        passed, until = until, 2 * until
    if failed:
        raise failed[0]
    return found[0]
