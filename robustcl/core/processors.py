"""Share processors, and survive exits of others."""

import ctypes
import faulthandler
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
# Looks before a thread of GNU's OpenMP sleeps. On two idle cores a small run took 1.08 times as
# long as with torch's own 300,000, and 1.37 times with none; beside a busy program 1.5 times the
# processor time of one thread, 3 with torch's own, 1.15 with none.
SPINS = "1000"
# Whoever sets one of these has chosen how threads wait, or how many there are.
WAITS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT", "GOMP_CPU_AFFINITY")


def share_processors() -> None:
    """Have threads of OpenMP sleep soon while they wait, and be no more than processors allowed.

    By default they spin. Where another program holds a processor, the thread that is waited for
    does not get on, and the others spend its time; in a container that is allowed fewer processors
    than the machine has, all are stopped for it. OpenMP reads this when torch is loaded, so it must
    come before; a command may choose so for its process, `import robustcl` may not. Nothing changes
    where the user has chosen.
    """
    if "torch" in sys.modules:
        return
    if not any(name in os.environ for name in WAITS):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ["GOMP_SPINCOUNT"] = SPINS
    allowed = allowed_processors()
    if allowed is not None and not any(name in os.environ for name in COUNTS):
        os.environ["OMP_NUM_THREADS"] = str(allowed)


def allowed_processors() -> int | None:
    """Return the number of processors that a container's quota leaves, rounded up.

    Returns:
        The number, at least 1; None where no quota is below the processors that this process may
        run on, which torch counts by itself.
    """
    if sys.platform != "linux":
        return None
    quotas = list(_quotas())
    allowed = max(1, math.ceil(min(quotas))) if quotas else None
    return allowed if allowed is not None and allowed < len(os.sched_getaffinity(0)) else None


def _quotas() -> Iterable[float]:
    # A limit holds for all groups below it; inside a container the own group may be the root.
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        names = controllers.split(",")
        if not controllers:  # version 2
            yield from _along(GROUPS, path, _quota2)
        elif "cpu" in names:
            for folder in dict.fromkeys((controllers, "cpu", "cpu,cpuacct")):
                yield from _along(GROUPS / folder, path, _quota1)


def _along(root: Path, path: str, read: Callable[[Path], float | None]) -> Iterable[float]:
    own = root / path.strip("/")
    for folder in (own, *own.parents):
        quota = read(folder) if folder.is_relative_to(root) else None
        if quota is not None:
            yield quota


def _quota2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return _share(quota, period)
    except (OSError, ValueError, ArithmeticError):
        return None


def _quota1(folder: Path) -> float | None:
    try:
        quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8")
        return _share(quota, (folder / "cpu.cfs_period_us").read_text(encoding="utf-8"))
    except (OSError, ValueError, ArithmeticError):
        return None


def _share(quota: str, period: str) -> float | None:
    # 'max' in version 2 is no number, and -1 in version 1 no limit.
    share = float(quota) / float(period) if quota.strip() != "max" else -1.0
    return share if 0 < share < math.inf else None


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
