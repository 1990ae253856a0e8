"""Say so when OpenMP's threads would spin on cores that other processes hold."""

import os
import sys

import torch

CURE = "OMP_WAIT_POLICY=PASSIVE"


def spinning_threads() -> str | None:
    """Compare the threads of this process, and the load of the machine, with its cores.

    Threads of OpenMP that wait for each other spin. Where others hold a core, the one that is
    waited for does not get on: on two such cores, steps with two threads took 2.8 times as long as
    lightly's, and 0.6 to 0.7 times with the variable set. It is read when torch is loaded, so it
    has to be set outside; what it costs on idle cores is unmeasured, so it is not set unasked.

    Returns:
        A warning with the cure; None where there is room, one thread, or a policy was chosen.
    """
    if sys.platform != "linux":  # other systems' OpenMP is another
        return None
    threads, cores = torch.get_num_threads(), len(os.sched_getaffinity(0))
    chosen = "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ
    load = os.getloadavg()[0]
    if threads < 2 or chosen or threads + load < cores + 1.0:
        return None
    return (
        f"{threads} threads on {cores} cores with a load of {load:.1f}: waiting threads spin, "
        f"which can make this several times slower; start again with {CURE}, or OMP_NUM_THREADS=1"
    )
