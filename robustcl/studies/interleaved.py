"""Time two ways of doing the same, in turn, as a ratio with an interval."""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.stats import binom

LEVEL = 0.95
Work = Callable[[], object]


@dataclass(frozen=True)
class Cost:
    """Hold the seconds of one run, on the wall's clock and on all processors together."""

    wall: float
    processor: float


@dataclass(frozen=True)
class Ratio:
    """Hold how many times as long theirs takes as ours: above 1, ours is faster.

    Args:
        median: Of the ratios of pairs.
        low: Lower end of a distribution-free interval of the median.
        high: Its upper end.
        ours: Median seconds of ours.
        theirs: Median seconds of theirs.
    """

    median: float
    low: float
    high: float
    ours: float
    theirs: float


def processor_seconds() -> float:
    """Return the processor time of this process and its workers.

    Returns:
        Seconds.
    """
    # CPUCLOCK_SCHED of another process, from Linux's ABI: workers that are still alive.
    workers = [child.pid for child in multiprocessing.active_children() if child.pid]
    return time.process_time() + sum(time.clock_gettime((~pid << 3) | 2) for pid in workers)


def cost(work: Work, device: str) -> Cost:
    """Time one run.

    Args:
        work: What is done.
        device: cpu, cuda, ...; a GPU is waited for.

    Returns:
        Its seconds.
    """
    wall, processor = time.perf_counter(), processor_seconds()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return Cost(time.perf_counter() - wall, processor_seconds() - processor)


def interleaved(
    ours: Work, theirs: Work, *, repeats: int, device: str = "cpu", warm: bool = True
) -> list[tuple[Cost, Cost]]:
    """Time both in turn; which one goes first changes from turn to turn.

    Args:
        ours: One way.
        theirs: The other.
        repeats: Turns.
        device: cpu, cuda, ...
        warm: Whether each is run once before, untimed.

    Returns:
        Per turn, the cost of ours and of theirs.
    """
    for work in (ours, theirs) if warm else ():
        work()
    pairs = []
    for turn in range(repeats):
        if turn % 2:
            first = cost(ours, device)
            pairs.append((first, cost(theirs, device)))
        else:
            other = cost(theirs, device)
            pairs.append((cost(ours, device), other))
    return pairs


def ratio(pairs: list[tuple[Cost, Cost]], *, clock: str) -> Ratio:
    """Compare costs as a median of ratios.

    Args:
        pairs: From `interleaved`.
        clock: 'wall' or 'processor'.

    Returns:
        The ratio.
    """
    mine, other = ([getattr(pair[side], clock) for pair in pairs] for side in (0, 1))
    found = median_interval([b / a for a, b in zip(mine, other, strict=True)])
    return Ratio(*found, statistics.median(mine), statistics.median(other))


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """Find the median, and order statistics around it that hold it with probability LEVEL.

    Args:
        values: Independent values.

    Returns:
        The median and both ends, which are the extremes where values are few.
    """
    ranked, count = sorted(values), len(values)
    inner = max(int(binom.ppf((1.0 - LEVEL) / 2.0, count, 0.5)) - 1, 0)
    return statistics.median(ranked), ranked[inner], ranked[count - 1 - inner]
