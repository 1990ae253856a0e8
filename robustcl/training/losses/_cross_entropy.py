"""Classify labeled images by a linear layer on the raw embedding, as supervised networks do."""

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.errors import InputError
from robustcl.training.losses.similarities import check_temperature


def cross_entropy(
    first: Tensor,
    second: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    temperature: float = 1.0,
) -> Tensor:
    """Compare linear scores of labeled images with their labels: -log softmax_y((W u + b) / T).

    u is the raw embedding, not its point on the sphere: this is the loss of a classifier trained
    without any contrast, the baseline of contrastive ones. W and b are learned with the encoder.
    Unlabeled images do not count; without labeled ones the loss is 0.

    Args:
        first: (B, d) raw embeddings of one view of each image.
        second: (B, d) raw embeddings of the other view, in the same order.
        labels: (B,) integer labels, -1 where unknown.
        weight: (K, d) W.
        bias: (K,) b.
        temperature: T > 0, which a learned W makes a matter of the learning rate.

    Returns:
        A scalar, the mean over labeled views, in float32 (float64 stays).

    Raises:
        InputError: When shapes do not match, or a label has no row of W.
    """
    check_temperature(temperature)
    if first.shape != second.shape or labels.shape != first.shape[:1]:
        raise InputError(
            f"embeddings of shapes {tuple(first.shape)}, {tuple(second.shape)} with labels of "
            f"shape {tuple(labels.shape)}; give (B, d) twice and (B,)"
        )
    if weight.ndim != 2 or weight.shape[1] != first.shape[1] or bias.shape != (len(weight),):
        raise InputError(
            f"weight {tuple(weight.shape)} with bias {tuple(bias.shape)} for embeddings of size "
            f"{first.shape[1]}; give (K, {first.shape[1]}) and (K,)"
        )
    highest = int(labels.max()) if len(labels) else -1
    if highest >= len(weight):
        raise InputError(f"label {highest} has no row among {len(weight)}; give one per class")
    known = labels >= 0
    wanted = labels[known].repeat(2)
    with torch.autocast(first.device.type, enabled=False):
        views = torch.cat([first[known], second[known]])
        views = views if views.dtype == torch.float64 else views.float()
        logits = functional.linear(views, weight.to(views), bias.to(views)) / temperature
        losses = functional.cross_entropy(logits, wanted, reduction="none")
    return losses.sum() / max(len(wanted), 1)
