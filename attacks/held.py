"""Hold everything an attack could disturb, and put it back."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from robustcl.frozen import frozen
from robustcl.objectives import Objective


@contextmanager
def held(objective: Objective) -> Iterator[None]:
    """Freeze the objective's model and fork the random generators; restore both on exit.

    Inside, the model is in eval mode and its weights want no gradient, so that none is left in
    `.grad`. A model hidden in `objective.margin` alone cannot be held: its owner does that.

    Args:
        objective: The objective under attack.

    Yields:
        Nothing.
    """
    model = objective.classifier
    kept = [] if model is None else [(weight, weight.grad) for weight in model.parameters()]
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with (
            torch.random.fork_rng(devices=devices),
            nullcontext() if model is None else frozen(model),
        ):
            yield
    finally:
        for weight, gradient in kept:
            weight.grad = gradient
