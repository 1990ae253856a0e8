"""Count what a module is asked."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


class RowCounter:
    """Note the rows of every call of a module, as a forward hook that changes nothing."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...], __: object) -> None:
        """Note one call.

        Args:
            inputs: Of the module, the images first.
        """
        self.seen.append(len(inputs[0]))


@contextmanager
def rows_seen(module: nn.Module | None) -> Iterator[list[int]]:
    """Count the rows of every call of a module: forward passes, padding included.

    Args:
        module: The module, left as it was; None counts nothing.

    Yields:
        A list to which each call adds its rows.
    """
    counter = RowCounter()
    handle = None if module is None else module.register_forward_hook(counter)
    try:
        yield counter.seen
    finally:
        if handle is not None:
            handle.remove()
