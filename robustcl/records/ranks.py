"""Share images among the processes that torchrun starts, without a word between them."""

import os
from collections.abc import Iterator

import numpy as np

from robustcl.core.errors import InputError


def rank() -> int:
    """Return this process's number: torchrun's RANK, 0 outside of it.

    Returns:
        A number in 0..`rank_count()` - 1.

    Raises:
        InputError: When RANK is not one of WORLD_SIZE processes.
    """
    own, count = _number("RANK", 0), rank_count()
    if not 0 <= own < count:
        raise InputError(f"RANK {own} is not in 0..{count - 1}; set WORLD_SIZE to the number")
    return own


def rank_count() -> int:
    """Return how many processes share the work: torchrun's WORLD_SIZE, 1 outside of it."""
    return max(_number("WORLD_SIZE", 1), 1)


def own_device(device: str) -> str:
    """Give each process on a machine a GPU of its own.

    Args:
        device: What the user asked for.

    Returns:
        The device; 'cuda' becomes that of torchrun's LOCAL_RANK where there are several processes.
    """
    shared = device == "cuda" and rank_count() > 1
    return f"cuda:{_number('LOCAL_RANK', 0)}" if shared else device


def own_chunks(count: int, size: int) -> Iterator[np.ndarray]:
    """Yield the chunks of a data set that are this process's: every `rank_count()`-th one.

    Chunks are those of one process alone, so that records do not depend on the number of processes.

    Args:
        count: Images in all.
        size: Images per chunk.

    Yields:
        (<= size,) consecutive positions.
    """
    for start in range(rank() * size, count, rank_count() * size):
        yield np.arange(start, min(start + size, count))


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    try:
        return int(text) if text else default
    except ValueError as error:
        raise InputError(f"{name} {text!r} is not a number; unset it, or use torchrun") from error
