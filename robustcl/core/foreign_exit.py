"""Keep libraries that end the process by themselves from choosing the exit code."""

import ctypes
import faulthandler
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def foreign_exits_abort() -> Iterator[None]:
    """Have a library that calls C's `exit` end the process by SIGABRT while the block runs.

    OpenBLAS and OpenMP call exit(1) where they get no memory or no thread, and 1 means a violation.
    No Python is run for it, as whoever gives up may be any thread. For the process of a command
    only: SIGABRT is ignored afterwards, so that its own end is an ordinary one.

    Yields:
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread() or not _registered():
        yield
        return
    if signal.getsignal(signal.SIGABRT) == signal.SIG_IGN:
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
    try:
        yield
    finally:
        faulthandler.disable()  # when Python ends it would bring back what SIGABRT did before
        signal.signal(signal.SIGABRT, signal.SIG_IGN)  # what is registered stays so


@cache
def _registered() -> bool:
    # At exit the C library is to call raise(SIGABRT), which does nothing while that is ignored.
    try:
        library = ctypes.CDLL(None)
        register, strike = getattr(library, "__cxa_atexit"), getattr(library, "raise")
    except (AttributeError, OSError, TypeError):  # another system's C library
        return False
    register.argtypes = [ctypes.c_void_p] * 3
    return register(ctypes.cast(strike, ctypes.c_void_p), int(signal.SIGABRT), None) == 0
