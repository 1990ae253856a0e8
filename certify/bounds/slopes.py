"""Bound the slopes of chosen directions of h over a ball: an interval Jacobian with an L2 part."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from robustcl.certify.bounds.layers import prefix_norms
from robustcl.certify.bounds.preactivation_bounds import all_known
from robustcl.certify.graph import Network
from robustcl.certify.ops.enclosures import Region, Slopes
from robustcl.certify.rounding import NORM, length, ulps, up
from robustcl.core.choices import CertifiedNorm


def slope_bounds(
    network: Network,
    regions: Sequence[Region],
    directions: Tensor,
    *,
    norm: CertifiedNorm,
    elementwise: bool = True,
) -> Tensor:
    """Bound the dual norm of the gradient of a.h over a region, for each direction a.

    A backward pass carries a center with two deviations, one entry by entry and one in L2. At an
    activation with slopes in [m - w, m + w] the center becomes m c, and the deviations grow by
    w |c| and |w c|_2. At every step that all paths cross, the bound so far times the Lipschitz
    constant of the steps before is a bound as well; the smallest is returned. Rounding is included.

    Args:
        network: The steps.
        regions: One per step, over the ball, for B images.
        directions: (B, K, d) float64.
        norm: 'l2' for the L2 norm of the gradient, 'linf' for its L1 norm.
        elementwise: Whether the deviation entry by entry is carried, at twice the cost.

    Returns:
        (B, K) upper bounds of sup |gradient|_q, as the derivative exists almost everywhere; inf
        where a value inside is not enclosed.

    Reference:
        Zhang et al., RecurJac, AAAI 2019; Shi et al., Efficiently Computing Local Lipschitz
        Constants, NeurIPS 2022, for the interval form. The L2 part is ours.
    """
    batch, count = directions.shape[:2]
    flat = directions.to(network.dtype).flatten(0, 1)
    zero = ulps(flat) * length(flat)
    spread = ulps(flat) * flat.abs() if elementwise else None
    waiting: dict[int, Slopes] = {len(network.steps) - 1: Slopes(flat, spread, zero)}
    prefixes = _prefixes(network, norm)
    best = torch.full_like(zero, torch.inf)
    for position in range(len(network.steps) - 1, -1, -1):
        if position not in waiting:
            continue
        slopes = waiting.pop(position)
        if not waiting:  # every path goes through this step
            best = torch.minimum(best, _cut(slopes, prefixes, position, norm))
        step = network.steps[position]
        inputs = [regions[source] for source in step.sources]
        if not inputs:
            break
        with step.at():
            parts = step.operation.slopes(slopes, inputs, count)
        for source, part in zip(step.sources, parts, strict=True):
            if not network.steps[source].operation.is_constant:
                waiting[source] = _merged(waiting[source], part) if source in waiting else part
    best = best.view(batch, count)
    return torch.where(all_known(regions)[:, None] & ~best.isnan(), best, torch.inf)


def _prefixes(network: Network, norm: CertifiedNorm) -> dict[str, tuple[float, ...]]:
    root = math.sqrt(math.prod(network.steps[0].shape)) * NORM
    found: dict[str, tuple[float, ...]] = {"l2": prefix_norms(network, norm="l2")}
    return (
        found
        if norm == "l2"
        else found | {"linf": prefix_norms(network, norm="linf"), "pixels": (root,)}
    )


def _cut(
    slopes: Slopes, prefixes: dict[str, tuple[float, ...]], position: int, norm: CertifiedNorm
) -> Tensor:
    # Bound the gradient at the image by the gradient at this step and the steps before it.
    size = length(slopes.center) + slopes.rho
    wide = None
    if slopes.spread is not None:
        wide = slopes.center.abs().add_(slopes.spread).mul_(1.0 + ulps(slopes.center))
        size = torch.minimum(size, length(wide))
    size = size * (prefixes["l2"][position] * NORM)
    if norm == "l2":
        return size
    entries = slopes.center.flatten(1)
    total = entries.abs().sum(dim=1, dtype=torch.float64)
    total = total + math.sqrt(entries.shape[1]) * slopes.rho
    if wide is not None:
        total = torch.minimum(total, wide.flatten(1).sum(dim=1, dtype=torch.float64))
    total = total * (prefixes["linf"][position] * NORM)
    return torch.minimum(total, size * prefixes["pixels"][0])


def _merged(first: Slopes, second: Slopes) -> Slopes:
    center = first.center + second.center
    spread = None
    if first.spread is not None and second.spread is not None:
        spread = up(first.spread + second.spread) + ulps(center) * center.abs()
    rho = (first.rho + second.rho) * NORM + ulps(center) * length(center)
    return Slopes(center, spread, rho)
