"""Measure how much of a loss's repulsion pushes images of one class apart."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.core.errors import InputError
from robustcl.training.losses.similarities import unit


@dataclass(frozen=True)
class Contradiction:
    """Report the contradiction in one batch.

    A contradictory event is a view j of the anchor's class, but of another image, that the
    anchor's loss repels. Its size is |g_ij| = w_ij sqrt(1 - s_ij^2) / |u_i|, the length of its part
    of the gradient by the anchor's embedding u_i.

    Args:
        share: Share of contradictory events in the sum of |g| over all repelled pairs.
        weight_share: The same share of the weights w alone, without the geometry.
        pairs: Share of same-class pairs among all pairs of different images.
        top: Share of the contradictory events' |g| that the largest 1 % of them carry.
        stretch: Mean of |z_i - z_j| / |x_i - x_j| over contradictory events, weighted by |g|: the
            local Lipschitz constant that the repulsion works on; NaN without images.
    """

    share: float
    weight_share: float
    pairs: float
    top: float
    stretch: float


@torch.no_grad()
def contradiction(
    weights: Tensor,
    embeddings: Tensor,
    labels: Tensor,
    images: Tensor | None = None,
) -> Contradiction:
    """Measure the contradiction in one batch.

    Args:
        weights: (2B, 2B) w_ij, from `pair_weights`: what repels is positive.
        embeddings: (2B, d) raw embeddings u of both views.
        labels: (B,) true labels, used to measure only.
        images: (2B, C, H, W) the views, for `stretch`.

    Returns:
        The report.

    Raises:
        InputError: When the shapes do not match.

    Reference:
        The gradient of normalized embeddings as in Khosla et al., Supervised Contrastive Learning,
        NeurIPS 2020, section 3.2.3.
    """
    count = len(labels)
    if weights.shape != (2 * count, 2 * count) or len(embeddings) != 2 * count:
        raise InputError(
            f"weights {tuple(weights.shape)} and embeddings {tuple(embeddings.shape)} do not fit "
            f"{count} labels; give (2B, 2B), (2B, d) and (B,)"
        )
    points = unit(embeddings).double()
    table = (points @ points.T).clamp(-1.0, 1.0)
    number = torch.arange(count, device=labels.device).repeat(2)
    other = number[:, None] != number[None, :]
    both = labels.repeat(2)
    same = (both[:, None] == both[None, :]) & other
    push = weights.double().clamp_min(0.0) * other
    norms = embeddings.double().norm(dim=1).clamp_min(1e-12)
    size = push * (1.0 - table.square()).sqrt() / norms[:, None]
    events = size[same & (push > 0)].sort(descending=True).values
    largest = max(round(0.01 * len(events)), 1)
    return Contradiction(
        share=_ratio(size[same].sum(), size.sum()),
        weight_share=_ratio(push[same].sum(), push.sum()),
        pairs=float(same.sum() / other.sum()),
        top=_ratio(events[:largest].sum(), events.sum()),
        stretch=_stretch(size * same, table, images),
    )


def _ratio(part: Tensor, whole: Tensor) -> float:
    return float(part / whole) if float(whole) > 0 else 0.0


def _stretch(size: Tensor, table: Tensor, images: Tensor | None) -> float:
    if images is None:
        return float("nan")
    pixels = images.flatten(1).double()
    apart = torch.cdist(pixels, pixels).clamp_min(1e-12)
    slopes = (2.0 - 2.0 * table).clamp_min(0.0).sqrt() / apart
    return _ratio((size * slopes).sum(), size.sum())
