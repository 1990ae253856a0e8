"""Count the rows that pass a model, the same way for every program."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass
class Rows:
    """Count rows that pass a model.

    Args:
        forwards: Rows of forward passes.
        gradients: Rows of backward passes.
    """

    forwards: int = 0
    gradients: int = 0


@contextmanager
def counting(model: nn.Module) -> Iterator[Rows]:
    """Count the rows of every forward and backward pass of a model.

    Args:
        model: The model; its hooks are as before on exit.

    Yields:
        The counts, which grow.
    """
    rows = Rows()

    def backward(gradient: Tensor) -> None:
        rows.gradients += len(gradient)

    def forward(_: nn.Module, __: Any, scores: Tensor) -> None:
        rows.forwards += len(scores)
        if scores.requires_grad:
            scores.register_hook(backward)

    handle = model.register_forward_hook(forward)
    try:
        yield rows
    finally:
        handle.remove()
