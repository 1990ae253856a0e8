"""Bound the slopes of chosen directions of h over a ball: an interval Jacobian with an L2 part."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustcl.certify.bounds.operations.activation import Activation
from robustcl.certify.bounds.operations.affine import Affine
from robustcl.certify.bounds.operations.joining import (
    Concatenation,
    Constant,
    Image,
    MaxPool,
    Sum,
)
from robustcl.certify.bounds.prefix_norms import prefix_norms
from robustcl.certify.bounds.regions import Region, all_known
from robustcl.certify.bounds.rounding import NORM, TINY, length, ulps, up
from robustcl.certify.bounds.trace import Network
from robustcl.certify.norms import Norm


@dataclass(frozen=True, eq=False)
class Slopes:
    """Enclose the gradients of some scalars with respect to one step, over a ball.

    Every gradient g satisfies |g - center| <= spread entry by entry and |g - center|_2 <= rho.

    Args:
        center: (B * K, *shape).
        spread: (B * K, *shape), or None where only rho is kept.
        rho: (B * K,).
    """

    center: Tensor
    spread: Tensor | None
    rho: Tensor


def slope_bounds(
    network: Network,
    regions: Sequence[Region],
    directions: Tensor,
    *,
    norm: Norm,
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
        if isinstance(network.steps[position].operation, Image):
            break
        for source, part in _pull(network, regions, position, slopes, count):
            waiting[source] = _merged(waiting[source], part) if source in waiting else part
    best = best.view(batch, count)
    return torch.where(all_known(regions)[:, None] & ~best.isnan(), best, torch.inf)


def _prefixes(network: Network, norm: Norm) -> dict[str, tuple[float, ...]]:
    root = math.sqrt(math.prod(network.steps[0].shape)) * NORM
    found: dict[str, tuple[float, ...]] = {"l2": prefix_norms(network, norm="l2")}
    return (
        found
        if norm == "l2"
        else found | {"linf": prefix_norms(network, norm="linf"), "pixels": (root,)}
    )


def _cut(
    slopes: Slopes, prefixes: dict[str, tuple[float, ...]], position: int, norm: Norm
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


def _pull(
    network: Network, regions: Sequence[Region], position: int, slopes: Slopes, count: int
) -> list[tuple[int, Slopes]]:
    step = network.steps[position]
    operation, sources = step.operation, step.sources
    if isinstance(operation, Sum):
        signed = zip(sources, operation.signs, strict=True)
        parts = [(s, replace(slopes, center=sign * slopes.center)) for s, sign in signed]
        return [p for p in parts if not isinstance(network.steps[p[0]].operation, Constant)]
    if isinstance(operation, Concatenation):
        axis = operation.axis + 1
        centers = slopes.center.split(operation.sizes, axis)
        none = [None] * len(sources)
        spreads = none if slopes.spread is None else slopes.spread.split(operation.sizes, axis)
        zipped = zip(sources, centers, spreads, strict=True)
        parts = [(s, Slopes(center, spread, slopes.rho)) for s, center, spread in zipped]
        return [p for p in parts if not isinstance(network.steps[p[0]].operation, Constant)]
    source = regions[sources[0]]
    if isinstance(operation, Affine):
        return [(sources[0], _pull_affine(operation, slopes))]
    if isinstance(operation, Activation):
        return [(sources[0], _pull_activation(operation, source, slopes, count))]
    assert isinstance(operation, MaxPool)
    return [(sources[0], _pull_windows(operation, source, slopes, count))]


def _merged(first: Slopes, second: Slopes) -> Slopes:
    center = first.center + second.center
    spread = None
    if first.spread is not None and second.spread is not None:
        spread = up(first.spread + second.spread) + ulps(center) * center.abs()
    rho = (first.rho + second.rho) * NORM + ulps(center) * length(center)
    return Slopes(center, spread, rho)


def _pull_affine(operation: Affine, slopes: Slopes) -> Slopes:
    center = operation.pull(slopes.center)
    if not operation.terms:
        spread = None if slopes.spread is None else operation.pull(slopes.spread)
        return Slopes(center, spread, slopes.rho)
    loss = 2.0 * operation.rounding
    lost = loss * operation.magnitude * length(slopes.center)
    rho = slopes.rho * (operation.norms["l2"] * NORM) + lost + TINY[center.dtype]
    if slopes.spread is None:
        return Slopes(center, None, rho)
    # The spread is a sum of nonnegative terms: what it loses is relative, and paid beforehand.
    wide = slopes.center.abs().mul_(loss).add_(TINY[center.dtype])
    wide.add_(slopes.spread, alpha=1.0 + 2.0 * loss)
    return _tightened(center, operation.pull_absolute(wide), rho)


def _pull_activation(operation: Activation, source: Region, slopes: Slopes, count: int) -> Slopes:
    low, high = operation.slopes(source.low, source.high)
    middle, width = (low + high) / 2.0, (high - low) / 2.0
    largest = torch.maximum(low.abs(), high.abs())
    raised = 1.0 + ulps(largest)  # pays for the products and sums below
    if not operation.is_exact:
        width = up(width) + ulps(width) * largest
    center = _times(slopes.center, middle, count)
    change = _times(slopes.center, width * raised, count).abs_()
    steepest = largest.flatten(1).amax(dim=1).double().repeat_interleave(count)
    rho = (slopes.rho * steepest + length(change)) * NORM
    if slopes.spread is None:
        return Slopes(center, None, rho)
    first, second = change.unflatten(0, (-1, count)), slopes.spread.unflatten(0, (-1, count))
    spread = torch.addcmul(first, second, (largest * raised)[:, None]).flatten(0, 1)
    return _tightened(center, spread, rho)


def _pull_windows(operation: MaxPool, source: Region, slopes: Slopes, count: int) -> Slopes:
    low, high = operation.windows(source.low), operation.windows(source.high)
    chosen = (high >= low.amax(dim=2, keepdim=True)).to(low)
    decided = (chosen.sum(dim=2, keepdim=True) == 1).to(low)
    center = slopes.center.flatten(2)[:, :, None]
    kept = operation.scatter(_times(center, chosen * decided, count))
    open_part = _times(center, 1.0 - decided, count).abs()
    root = math.sqrt(operation.covers) * NORM
    lost = ulps(center) * operation.covers * length(center)
    rho = root * (slopes.rho + length(open_part)) + lost
    if slopes.spread is None:
        return Slopes(kept, None, rho)
    wide = slopes.spread.flatten(2)[:, :, None] + open_part + ulps(center) * center.abs()
    spread = operation.scatter(_times(wide, chosen, count)) * (1.0 + operation.covers * ulps(wide))
    return _tightened(kept, spread, rho)


def _tightened(center: Tensor, spread: Tensor, rho: Tensor) -> Slopes:
    rho = torch.minimum(rho, length(spread))
    cap = up(rho.to(spread)).view(-1, *[1] * (spread.ndim - 1))
    return Slopes(center, torch.minimum(spread, cap), rho)


def _times(values: Tensor, factors: Tensor, count: int) -> Tensor:
    # (B * K, ...) values times (B, ...) factors, the same for all K directions.
    return (values.unflatten(0, (-1, count)) * factors[:, None]).flatten(0, 1)
