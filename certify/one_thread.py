"""Compute with one thread per operation, so that results do not depend on how many there are."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

Item = TypeVar("Item")
_Result = TypeVar("Result")


# How many items may be treated at a time while operations have one thread.
_SPARE: ContextVar[int] = ContextVar("spare", default=1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread per operation, and restore its number on exit.

    Yields:
        Nothing.
    """
    before = torch.get_num_threads()
    token = _SPARE.set(max(_SPARE.get(), before))
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)
        _SPARE.reset(token)


def spare_threads() -> int:
    """Say how many items may be treated at a time.

    Returns:
        The number of threads outside of `one_thread`; 1 within items.
    """
    return max(_SPARE.get(), torch.get_num_threads())


def _no_autocast(device: str) -> torch.autocast:
    return torch.autocast(device, enabled=False)


def each(
    function: Callable[[Item], _Result], items: Sequence[Item], *, workers: int
) -> list[_Result]:
    """Apply a function to every item, with one thread per operation, several items at a time.

    Autocasting is off, as it would round further than is accounted for.

    A sum in other portions rounds otherwise, and so do other shapes. Items that are treated one by
    one, with one thread each, give the same bits alone, in any company and with any number of
    threads.

    Args:
        function: Called without gradients.
        items: The items.
        workers: Items at a time.

    Returns:
        The results, in order.
    """

    def call(item: Item) -> _Result:
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            _no_autocast("cpu"),
            _no_autocast("cuda"),
        ):
            return function(item)

    with one_thread():
        if workers < 2 or len(items) < 2:
            return [call(item) for item in items]
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        try:
            return list(pool.map(call, items))
        finally:  # who interrupts need not wait for the items that have not begun
            pool.shutdown(wait=True, cancel_futures=True)
