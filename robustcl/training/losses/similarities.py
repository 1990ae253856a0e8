"""Compare all views of a batch on the unit sphere."""

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.errors import InputError

UNLABELED = -1


def unit(embeddings: Tensor) -> Tensor:
    """Return embeddings divided by their norms, in float32 (float64 stays).

    Never in half precision: there the usual 1e-12 below the norm rounds to 0.

    Args:
        embeddings: (..., d) raw embeddings of any floating type.

    Returns:
        (..., d) unit vectors.
    """
    wide = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    return functional.normalize(wide, dim=-1)


def similarities(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """Return the logits s_ij / tau of all 2B views, minus infinity on the diagonal.

    Normalization and products are in float32 (float64 for float64 embeddings) whatever the
    autocast type.

    Args:
        first: (B, d) raw embeddings of one view of each image.
        second: (B, d) raw embeddings of the other view, in the same order.
        temperature: tau > 0.

    Returns:
        (2B, 2B) logits; row i + B is the other view of row i. What `check_shapes` and
        `check_temperature` refuse is refused.
    """
    check_shapes(first, second)
    check_temperature(temperature)
    with torch.autocast(first.device.type, enabled=False):
        views = unit(torch.cat([first, second]))
        itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
        return (views @ views.T / temperature).masked_fill(itself, -torch.inf)


def check_shapes(first: Tensor, second: Tensor) -> None:
    """Refuse embeddings of two views that do not belong together.

    Args:
        first: (B, d) embeddings of one view of each image.
        second: (B, d) embeddings of the other view.

    Raises:
        InputError: When the shapes differ or are not (B, d), or B is below 2.
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


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not positive.

    Args:
        temperature: tau.

    Raises:
        InputError: When it is not.
    """
    if not temperature > 0.0:
        raise InputError(f"temperature {temperature!r} is not positive; try 0.5")


def check_margin(margin: float) -> None:
    """Refuse a negative margin.

    Args:
        margin: The margin.

    Raises:
        InputError: When it is negative.
    """
    if not margin >= 0.0:
        raise InputError(f"margin {margin!r} is negative; give 0 or more")


def same_class(labels: Tensor, count: int) -> Tensor:
    """Return which pairs of views have the same label, known for both.

    The two views of one image count as a pair of the same class also when it is unlabeled.

    Args:
        labels: (B,) integer labels, -1 where unknown.
        count: B.

    Returns:
        (2B, 2B) booleans, False on the diagonal. Labels that do not fit are refused.
    """
    both = _alone(labels, count).repeat(2)
    return (both[:, None] == both[None, :]).fill_diagonal_(False)


def group_of(labels: Tensor, count: int) -> Tensor:
    """Number the groups of views that belong together: a class, or one unlabeled image.

    Args:
        labels: (B,) integer labels, -1 where unknown.
        count: B.

    Returns:
        (2B,) group of each view, numbered from 0 without gaps. Labels that do not fit are refused.
    """
    return torch.unique(_alone(labels, count), return_inverse=True)[1].repeat(2)


def _alone(labels: Tensor, count: int) -> Tensor:
    # Every unlabeled image becomes a class of its own.
    if labels.shape != (count,) or labels.is_floating_point():
        raise InputError(
            f"{count} images have labels of shape {tuple(labels.shape)} and type {labels.dtype}; "
            "give one integer per image, -1 where unknown"
        )
    alone = -2 - torch.arange(count, device=labels.device)
    return torch.where(labels >= 0, labels, alone)


def partner_of(logits: Tensor) -> Tensor:
    """Return the row of each view's other view.

    Args:
        logits: (2B, 2B), as from `similarities`.

    Returns:
        (2B,) row numbers.
    """
    return torch.arange(len(logits), device=logits.device).roll(len(logits) // 2)
