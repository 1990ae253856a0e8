"""Compute with one thread per operation, so that results do not depend on how many there are."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[int]:
    """Let torch use one thread per operation, and restore its number on exit.

    Yields:
        The number of threads before.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield before
    finally:
        torch.set_num_threads(before)


def each(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int
) -> list[Result]:
    """Apply a function to every item, with one thread per operation, several items at a time.

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

    def call(item: Item) -> Result:
        with torch.inference_mode(False), torch.no_grad():
            return function(item)

    with one_thread():
        if workers < 2 or len(items) < 2:
            return [call(item) for item in items]
        begin = torch.set_num_threads
        with ThreadPoolExecutor(workers, initializer=begin, initargs=(1,)) as pool:
            return list(pool.map(call, items))
