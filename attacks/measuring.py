"""Evaluate margins in batches of one fixed shape."""

import torch
from torch import Tensor

from robustcl.core.batching import fill
from robustcl.core.objectives import Objective


def measure(objective: Objective, images: Tensor, *, batch_size: int) -> Tensor:
    """Evaluate the margin in batches of one fixed shape; NaN is no win.

    Args:
        objective: The objective.
        images: (B, C, H, W).
        batch_size: Rows per call.

    Returns:
        (B,) margins.
    """
    margins = []
    with torch.no_grad():
        for chunk in torch.arange(len(images), device=images.device).split(batch_size):
            rows = fill(chunk, batch_size)
            margins.append(objective.select(rows).margin(images[rows])[: len(chunk)])
    return torch.nan_to_num(torch.cat(margins), nan=-torch.inf, posinf=torch.inf)
