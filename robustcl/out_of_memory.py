"""Halve the batch when memory runs out."""

from collections.abc import Callable
from typing import TypeVar

import torch

from robustcl.core.terminal import say
from robustcl.errors import RunError

Result = TypeVar("Result")


def halving(function: Callable[[int], Result], batch_size: int) -> Result:
    """Call a function with ever smaller batches until it fits into memory.

    Args:
        function: Takes the batch size; must be fit to be called again after a failure.
        batch_size: The first size to try.

    Returns:
        What the function returns.

    Raises:
        RunError: When one image alone does not fit.
        RuntimeError: What else the function raises, as it is.
    """
    size = batch_size
    while True:
        try:
            return function(size)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise RunError("one image alone does not fit into memory; use --device") from error
        size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say(f"out of memory: going on with --batch-size {size}")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on a GPU or a CPU.

    Args:
        error: The error.

    Returns:
        True when it does.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
