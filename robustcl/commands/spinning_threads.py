"""Say so when OpenMP's threads would spin on cores that other processes hold."""

import os
import statistics
import sys
import time
from pathlib import Path

import torch

CURE = "OMP_WAIT_POLICY=PASSIVE"
LOADS = Path("/proc/loadavg")
LOOKS, PAUSE = 9, 0.02  # seconds


def spinning_threads() -> str | None:
    """Compare the threads of this process, and what others run, with the cores.

    Threads of OpenMP that wait for each other spin. Where others hold a core, the one that is
    waited for does not get on: on two such cores, steps with two threads took 2.8 times as long as
    lightly's, and 0.6 to 0.7 times with the variable set. It is read when torch is loaded, so it
    has to be set outside; what it costs on idle cores is unmeasured, so it is not set unasked.

    Others are counted now: the load average has this process in it as well, and what ended before.

    Returns:
        A warning with the cure; None where there is room, one thread, or a policy was chosen.
    """
    if sys.platform != "linux":  # other systems' OpenMP is another
        return None
    threads, cores = torch.get_num_threads(), len(os.sched_getaffinity(0))
    chosen = "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ
    if threads < 2 or chosen:
        return None
    others = _others()
    if threads + others <= cores:
        return None
    return (
        f"{threads} threads on {cores} cores of which others hold {min(others, cores)}: waiting "
        f"threads spin, which can make this several times slower; start again with {CURE}, or "
        "OMP_NUM_THREADS=1"
    )


def _others() -> int:
    if not LOADS.is_file():  # not every container has it
        return 0
    looks = []
    for _ in range(LOOKS):
        looks.append(int(LOADS.read_text().split()[3].split("/")[0]))  # runnable, this one included
        time.sleep(PAUSE)
    return max(int(statistics.median(looks)) - 1, 0)
