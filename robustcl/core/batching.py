"""Call models in batches of one size, smaller ones when memory runs out, and count the calls."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from robustcl.core.errors import InputError, RunError
from robustcl.core.memory import is_out_of_memory, release_freed_memory
from robustcl.core.terminal import say


def fixed_size(function: Callable[[Tensor], Tensor], images: Tensor, *, batch_size: int) -> Tensor:
    """Apply a function to images in batches of exactly `batch_size`.

    Args:
        function: (batch_size, ...) to (batch_size, ...), row by row.
        images: (N, ...) images, N >= 0.
        batch_size: Rows per call; the last batch is filled up by repeating its last image.

    Returns:
        (N, ...) the results of the true rows.

    Raises:
        InputError: When `batch_size` is below 1 or there is no image.
    """
    if batch_size < 1:
        raise InputError(f"batch_size {batch_size} is below 1; use a positive batch size")
    if not len(images):
        raise InputError("there are no images; give at least one")
    results = []
    for chunk in images.split(batch_size):
        results.append(function(fill(chunk, batch_size))[: len(chunk)])
    return torch.cat(results)


def fill(rows: Tensor, batch_size: int) -> Tensor:
    """Repeat the last row until there are `batch_size` rows.

    Args:
        rows: (R, ...), 1 <= R <= batch_size.
        batch_size: Rows wanted.

    Returns:
        (batch_size, ...).
    """
    missing = batch_size - len(rows)
    return rows if missing <= 0 else torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])


_Result = TypeVar("_Result")


def retry_smaller(
    function: Callable[[int], _Result], batch_size: int, *, what: str = "--batch-size"
) -> _Result:
    """Call a function with ever smaller batches until it fits into memory.

    Args:
        function: Takes the batch size; must be fit to be called again after a failure.
        batch_size: The first size to try.
        what: What the size is called in messages.

    Returns:
        What the function returns.

    Raises:
        RunError: When one image alone does not fit.
        Exception: What else the function raises, as it is.
    """
    size = batch_size
    while True:
        try:
            return function(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise RunError(
                    f"one image alone does not fit into memory ({_reason(error)}); use --device"
                ) from error
        size //= 2
        release_freed_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say(f"out of memory: going on with {what} {size}")


def _reason(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


class ForwardPassCounter:
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
def count_forward_passes(module: nn.Module | None) -> Iterator[list[int]]:
    """Count the rows of every call of a module: forward passes, padding included.

    Args:
        module: The module, left as it was; None counts nothing.

    Yields:
        A list to which each call adds its rows.
    """
    counter = ForwardPassCounter()
    handle = None if module is None else module.register_forward_hook(counter)
    try:
        yield counter.seen
    finally:
        if handle is not None:
            handle.remove()
