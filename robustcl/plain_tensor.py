"""Free tensors of `torch.inference_mode`, of which no gradient can be taken."""

import torch
from torch import Tensor


def plain_tensor(values: Tensor) -> Tensor:
    """Return a tensor that gradients may pass by.

    Args:
        values: A tensor.

    Returns:
        The tensor itself; a copy where it was made in `torch.inference_mode`.
    """
    if not values.is_inference():
        return values
    with torch.inference_mode(False):
        return values.clone()
