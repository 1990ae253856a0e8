"""Bound a weighted sum of functions with one kink at 0 from below by a linear function."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.certify.ops.enclosures import LineChoice, Region
from robustcl.certify.ops.scalar_function import ScalarFunction
from robustcl.certify.rounding import NORM, dot_loss, length, ulps, weighted

_SHARES = (0.0625, 0.125, 0.25, 0.5, 1.0)
_MOST = 0.75  # of the units, above which picking out the open ones does not pay


@dataclass(frozen=True, eq=False)
class _Kinks:
    # f(z) = left z + (1 - left) relu(z) on [low, high], (B, 1, U).
    left: Tensor
    low: Tensor
    high: Tensor
    z0: Tensor
    reach: Tensor  # (B, 1) L2 distance of every z from z0
    is_coupled: Tensor  # (B, 1) whether that says more than the intervals: is the box not inside?

    def value(self, z: Tensor) -> Tensor:
        return torch.where(z > 0, z, self.left * z)


@dataclass(frozen=True, eq=False)
class _Lines:
    # floor + below z <= f(z) <= roof + above z on [low, high], (B, 1, U) or (B, K, U).
    below: Tensor
    above: Tensor
    floor: Tensor
    roof: Tensor


def relu_linear_bounds(
    function: ScalarFunction, region: Region, weights: Tensor, choice: LineChoice
) -> tuple[Tensor, Tensor, Tensor]:
    """Bound sum_i weights_i f(z_i) from below by slope.z + constant, over a region of z.

    Numbers whose interval lies on one side of 0 are multiplied by their slope. For the others see
    `scalar_lines`; with c = w (1 - left) and g = s - w left, the coupled minimum over z of
    c relu(z) - g z + t (z - z0)^2 / 2 is that of two parabolas.

    Args:
        function: f, a line on each side of 0.
        region: Of z, (B, *shape).
        weights: (B * K, *shape).
        choice: `alpha` says where between its two slopes the line of each number is that touches
            the kink; tangents are tried where offsets are coupled.

    Returns:
        slope (B * K, *shape), constant (B * K,), and at least the rounding lost (B * K,) besides
        one rounding of each slope.

    Reference:
        Zhang et al., CROWN, NeurIPS 2018, for the lines; Xu et al., Fast and Complete, ICLR 2021,
        for slopes that may be chosen; Chiu et al., SDP-CROWN, ICML 2025, for the coupled offset.
    """
    count, alpha, tangents = choice.count, choice.alpha, choice.tangents
    (center,) = choice.centers
    rows = weights.flatten(1).unflatten(0, (-1, count))
    low, high = region.low.flatten(1), region.high.flatten(1)
    sided = function.slope_at(region.low).flatten(1)
    # Units that may lie on both sides, 0 itself included: `slope_at` takes the left side there.
    is_open = (low <= 0) & (high > 0)
    some = int(is_open.sum(dim=1).max())
    if not some:
        none = torch.zeros(len(weights), dtype=torch.float64, device=rows.device)
        return (rows * sided[:, None]).view_as(weights), none, none
    left = torch.where(is_open, function.slope_at(-torch.ones_like(region.low)).flatten(1), sided)
    is_line = ~is_open & (low > 0)
    left = torch.where(is_line, 1.0, left)
    middle = (center.low + center.high).flatten(1) / 2.0
    values = [left, low, high, middle]
    share = None if alpha is None else alpha.view_as(rows)
    error = length(center.high - center.low)
    reach = (region.reach + error) * NORM
    if some > _MOST * low.shape[1]:
        part, constant, lost = _best(_kinks(values, reach), rows, share, tangents)
        return part.view_as(weights), constant.flatten(), lost.flatten()
    # The same number of units for every image; those that are filled up are lines already.
    chosen = is_open.to(torch.float32).topk(some, dim=1).indices
    repeated = chosen[:, None].expand(-1, count, -1)
    kinks = _kinks([value.gather(1, chosen) for value in values], reach)
    share = None if share is None else share.gather(2, repeated)
    part, constant, lost = _best(kinks, rows.gather(2, repeated), share, tangents)
    slope = (rows * sided[:, None]).scatter(2, repeated, part)
    return slope.view_as(weights), constant.flatten(), lost.flatten()


def _kinks(values: Sequence[Tensor], reach: Tensor) -> _Kinks:
    left, low, high, middle = (value[:, None] for value in values)
    is_open = (low <= 0) & (high > 0)  # what fills up must not count
    furthest = length(torch.maximum(high - middle, middle - low).where(is_open, 0.0))
    is_coupled = (reach < furthest)[:, None]
    return _Kinks(left, low, high, middle, reach[:, None], is_coupled)


def _best(
    kinks: _Kinks, weights: Tensor, alpha: Tensor | None, tangents: bool
) -> tuple[Tensor, Tensor, Tensor]:
    # Slope (B, K, U), constant and rounding (B, K).
    slope, constant = _bound(kinks, weights, _chords(kinks, alpha))
    if alpha is None and tangents and bool(kinks.is_coupled.any()):
        other, rest = _bound(kinks, weights, _tangents(kinks))
        gain = ((other - slope) * kinks.z0).sum(dim=2, dtype=torch.float64) + rest - constant
        better = kinks.is_coupled & (gain > 0)
        slope = torch.where(better[:, :, None], other, slope)
        constant = torch.where(better, rest, constant)
    largest = torch.maximum(kinks.low.abs(), kinks.high.abs()) + 1.0
    steepest = kinks.left.abs().clamp_min(1.0)
    total = _weighted(slope, largest) + _weighted(weights, steepest * largest)
    return slope, constant, (total + constant.abs()) * dot_loss(weights[0], 32)


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    return weighted(values.flatten(0, 1), weights[:, 0]).view(values.shape[:2])


def _chords(kinks: _Kinks, alpha: Tensor | None) -> _Lines:
    low, high, left = kinks.low, kinks.high, kinks.left
    chord = (kinks.value(high) - kinks.value(low)) / (high - low).clamp_min(1e-300)
    chord = torch.minimum(torch.maximum(chord, left.clamp_max(1.0)), left.clamp_min(1.0))
    chord = torch.where(high - low > 1e-9, chord, left)
    touching = torch.where(high > -low, 1.0, left)
    if alpha is not None:
        touching = left + alpha * (1.0 - left)
    is_convex = left <= 1.0
    below = torch.where(is_convex, touching, chord)
    above = torch.where(is_convex, chord, touching)
    return _Lines(below, above, _offset(kinks, below, -1.0), _offset(kinks, above, 1.0))


def _tangents(kinks: _Kinks) -> _Lines:
    # The center may lie outside of a region that was tightened; a unit whose sign is sure there
    # must get the slope of that side, since `_coupled` counts it as exact.
    inside = torch.minimum(torch.maximum(kinks.z0, kinks.low), kinks.high)
    slope = torch.where(inside > 0, 1.0, kinks.left)
    return _Lines(slope, slope, _offset(kinks, slope, -1.0), _offset(kinks, slope, 1.0))


def _offset(kinks: _Kinks, slope: Tensor, side: float) -> Tensor:
    # The least (side -1) or largest (side 1) of f(z) - slope z: it is reached at an end or at 0.
    middle = torch.zeros_like(kinks.low).clamp(min=kinks.low, max=kinks.high)
    rests = [kinks.value(end) - slope * end for end in (kinks.low, middle, kinks.high)]
    extreme = torch.stack([side * rest for rest in rests]).amax(dim=0)
    size = (1.0 + slope.abs()) * (torch.maximum(kinks.low.abs(), kinks.high.abs()) + 1.0)
    return side * (extreme + ulps(slope) * size * kinks.left.abs().clamp_min(1.0))


def _bound(kinks: _Kinks, weights: Tensor, lines: _Lines) -> tuple[Tensor, Tensor]:
    up = weights > 0
    slope = torch.where(up, lines.below, lines.above) * weights
    offset = torch.where(up, lines.floor, lines.roof) * weights
    constant = offset.sum(dim=2, dtype=torch.float64)
    if not bool(kinks.is_coupled.any()):  # the coupled bound would be no better
        return slope, constant
    return slope, torch.maximum(constant, _coupled(kinks, weights, slope))


def _coupled(kinks: _Kinks, weights: Tensor, slope: Tensor) -> Tensor:
    open_units = (kinks.low <= 0) & (kinks.high > 0)
    c = torch.where(open_units, weights * (1.0 - kinks.left), 0.0)
    g = torch.where(open_units, slope - weights * kinks.left, 0.0)
    z0 = torch.where(open_units, kinks.z0, 0.0)
    scale = length(c.flatten(0, 1)).view(c.shape[:2]) / kinks.reach.clamp_min(1e-300)
    best = torch.full_like(scale, -torch.inf)
    for share in _SHARES:
        weight = (scale * share).clamp(1e-15, 1e15).to(c)
        pull = weight[:, :, None] * z0
        least = torch.minimum(c - g - pull, g + pull).clamp_max(0.0)
        weight = weight.double()
        gained = (pull * z0).sum(dim=2, dtype=torch.float64) / 2.0
        paid = (least**2).sum(dim=2, dtype=torch.float64) / (2.0 * weight)
        paid = paid + weight * kinks.reach**2 / 2.0
        bound = gained - paid - (gained + paid) * dot_loss(weights[0], 32)
        best = torch.maximum(best, bound.nan_to_num(nan=-torch.inf))
    return best
