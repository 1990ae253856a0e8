"""Hold a model still: eval mode, no gradients of weights, everything restored on exit."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(module: nn.Module | None) -> Iterator[None]:
    """Put a module into eval mode and stop gradients of its weights, and restore both on exit.

    Args:
        module: The module, which is changed only within the context; None for none.

    Yields:
        Nothing.
    """
    if module is None:
        yield
        return
    modes = [(part, part.training) for part in module.modules()]
    weights = (weight for weight in module.parameters() if not weight.is_inference())
    wanted = [(weight, weight.requires_grad) for weight in weights]
    try:
        module.eval()
        for weight, _ in wanted:
            weight.requires_grad_(False)
        yield
    finally:
        for part, training in modes:
            part.training = training
        for weight, wants in wanted:
            weight.requires_grad_(wants)
