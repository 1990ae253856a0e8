"""Count what a module is asked."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def rows_seen(module: nn.Module | None) -> Iterator[list[int]]:
    """Count the rows of every call of a module: forward passes, padding included.

    Args:
        module: The module, left as it was; None counts nothing.

    Yields:
        A list to which each call adds its rows.
    """
    seen: list[int] = []

    def hear(_: nn.Module, inputs: tuple[Tensor, ...], __: object) -> None:
        seen.append(len(inputs[0]))

    handle = None if module is None else module.register_forward_hook(hear)
    try:
        yield seen
    finally:
        if handle is not None:
            handle.remove()
