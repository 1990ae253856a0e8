"""Tell whether a model takes gradients while it predicts."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from robustcl.attacks.checks.flag import Flag
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError


def takes_gradients(classifier: Classifier, images: Tensor) -> Flag | None:
    """Look for backward passes within a forward pass: test-time optimization.

    Gradients are off outside, so whatever graph is built and walked back is the model's own. The
    walk is seen by the tensors it asks for, wherever it was started from.

    Args:
        classifier: The model.
        images: (B, C, H, W).

    Returns:
        The flag 'test_time_optimization', or None.

    Raises:
        InputError: When the model needs gradients that it has not switched on.
        RuntimeError: What else the model raises, as it is.
    """
    try:
        with torch.no_grad(), _backward_passes() as seen:
            classifier(images)
    except RuntimeError as error:
        if "does not require grad" in str(error):
            raise InputError(
                "the network takes gradients in its forward pass, which fails where gradients are "
                "off; put 'with torch.enable_grad():' around that part of its forward"
            ) from error
        if "saved tensor hooks" not in str(error):
            raise
        seen = [1]  # torch.func.grad, which refuses to be watched
    if not seen:
        return None
    return Flag(
        "test_time_optimization",
        "The model takes gradients inside its forward pass. Attacks follow the gradient around "
        "that optimization, not through it; attack the model without it and try what was found "
        "on the model with it.",
        (),
        13,
    )


@contextmanager
def _backward_passes() -> Iterator[list[int]]:
    # Every backward pass unpacks what the forward pass has saved.
    seen: list[int] = []

    def unpack(saved: Tensor) -> Tensor:
        seen.append(1)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
        yield seen
