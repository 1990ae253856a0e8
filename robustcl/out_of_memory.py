"""Halve the batch when memory runs out."""

from collections.abc import Callable
from typing import TypeVar

import torch

from robustcl.core.memory import is_out_of_memory, release_freed_memory
from robustcl.core.terminal import say
from robustcl.errors import RunError

Result = TypeVar("Result")


def halving(
    function: Callable[[int], Result], batch_size: int, *, what: str = "--batch-size"
) -> Result:
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
