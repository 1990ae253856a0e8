"""Change the learning rate in the course of training."""

import math


def rate(done: float, warmup: float) -> float:
    """Return the share of the peak learning rate: a linear rise, then a half cosine to 0.

    Args:
        done: Share of the schedule that is over, in [0, 1].
        warmup: Share of the schedule that rises.

    Returns:
        A number in (0, 1] that is 0 only at the end.
    """
    if done < warmup:
        return 0.01 + 0.99 * done / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (done - warmup) / (1.0 - warmup)))
