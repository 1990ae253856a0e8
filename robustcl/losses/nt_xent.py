"""Compute the loss of SimCLR."""

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.errors import InputError


def similarities(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """Return the logits s_ij / tau of all 2B views, minus infinity on the diagonal.

    Normalization and products are in float32 (float64 for float64 embeddings) whatever the
    autocast type: in fp16 the usual 1e-12 below the norm rounds to 0.

    Args:
        first: (B, d) raw embeddings of one view of each image.
        second: (B, d) raw embeddings of the other view, in the same order.
        temperature: tau > 0.

    Returns:
        (2B, 2B) logits; row i + B is the other view of row i.

    Raises:
        InputError: When the shapes differ or are not (B, d), B is below 2 or tau is not positive.
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise InputError(
            f"the two views have embeddings of shapes {tuple(first.shape)} and "
            f"{tuple(second.shape)}; give two tensors of the same shape (B, d)"
        )
    if len(first) < 2:
        raise InputError(
            f"a contrastive loss needs negatives; give 2 images or more, not {len(first)}"
        )
    if not temperature > 0.0:
        raise InputError(f"temperature {temperature!r} is not positive; try 0.5")
    with torch.autocast(first.device.type, enabled=False):
        views = torch.cat([first, second])
        views = views if views.dtype == torch.float64 else views.float()
        views = functional.normalize(views, dim=1)
        itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
        return (views @ views.T / temperature).masked_fill(itself, -torch.inf)


def nt_xent(first: Tensor, second: Tensor, *, temperature: float = 0.5) -> Tensor:
    """Compute the mean normalized temperature-scaled cross entropy over all 2B views.

    For a view i with other view i+: -s_ii+ / tau + log sum_{k != i} exp(s_ik / tau).

    Args:
        first: (B, d) raw embeddings of one view of each image; B >= 2.
        second: (B, d) raw embeddings of the other view, in the same order.
        temperature: tau > 0.

    Returns:
        A scalar. What `similarities` refuses is refused.

    Reference:
        Chen et al., A Simple Framework for Contrastive Learning of Visual Representations,
        ICML 2020, equation 1.
    """
    logits = similarities(first, second, temperature=temperature)
    count = len(first)
    partner = torch.arange(2 * count, device=logits.device).roll(count)
    return functional.cross_entropy(logits, partner)
