"""Bound a weighted sum of activations from below by a linear function over a region."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.certify.ops.enclosures import LineChoice, Region
from robustcl.certify.ops.relu_linear_bounds import relu_linear_bounds
from robustcl.certify.ops.scalar_function import ScalarFunction
from robustcl.certify.rounding import NORM, dot_loss, length, outward, weighted

_SHARES = (0.0, 0.0625, 0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True, eq=False)
class _Place:
    # One activation over a region, (B, *shape), or (B * K, *shape) once repeated.
    function: ScalarFunction
    low: Tensor
    high: Tensor
    z0: Tensor
    reach: Tensor  # L2 distance of every z from z0

    def repeated(self, count: int) -> "_Place":
        low, high, z0, reach = (
            value.repeat_interleave(count, 0)
            for value in (self.low, self.high, self.z0, self.reach)
        )
        return _Place(self.function, low, high, z0, reach)


@dataclass(frozen=True, eq=False)
class _Lines:
    # floor + below z <= f(z) <= roof + above z on [low, high].
    below: Tensor
    above: Tensor
    floor: Tensor
    roof: Tensor
    touching: bool  # whether both are tangents at z0

    def repeated(self, count: int) -> "_Lines":
        below, above, floor, roof = (
            value.repeat_interleave(count, 0)
            for value in (self.below, self.above, self.floor, self.roof)
        )
        return _Lines(below, above, floor, roof, self.touching)


def scalar_linear_bounds(
    function: ScalarFunction, region: Region, weights: Tensor, choice: LineChoice
) -> tuple[Tensor, Tensor, Tensor]:
    """Bound sum_i weights_i f(z_i) from below by slope.z + constant, over a region of z.

    Two families of lines are compared by their value at the center, for each direction: chords and
    adaptive slopes, and tangents at the center. The constant is the better of the sum of the
    offsets on the intervals and a bound that couples them by the L2 ball around z0: for any t > 0,
    sum_i [w_i f(z_i) - s_i z_i] >= sum_i min_z [w_i f(z) - s_i z + t (z - z_{0,i})^2 / 2]
    - t reach^2 / 2. The minima are known for functions with one kink at 0 (see
    `relu_linear_bounds`), and follow from the curvature for smooth ones.

    Args:
        function: f.
        region: Of z, (B, *shape).
        weights: (B * K, *shape).
        choice: Which lines are wanted.

    Returns:
        slope (B * K, *shape), constant (B * K,), and at least the rounding lost (B * K,) besides
        one rounding of each slope.

    Reference:
        Zhang et al., CROWN, NeurIPS 2018, for the lines; Chiu et al., SDP-CROWN, ICML 2025, for
        the coupled offset of ReLU. That of smooth functions is ours.
    """
    if function.is_piecewise_linear:
        return relu_linear_bounds(function, region, weights, choice)
    count, alpha = choice.count, choice.alpha
    one = _place(function, region, choice.centers[0])
    place = one.repeated(count)
    if alpha is not None:
        slope, constant = _bound(place, weights, _chords(place, alpha))
    else:
        slope, constant = _bound(place, weights, _chords(one, None).repeated(count))
    if alpha is None and choice.tangents:
        other, rest = _bound(place, weights, _tangents(one).repeated(count))
        gain = _sums((other - slope) * place.z0) + rest - constant
        better = gain > 0
        slope = torch.where(better.view(-1, *[1] * (slope.ndim - 1)), other, slope)
        constant = torch.where(better, rest, constant)
    largest = torch.maximum(one.low.abs(), one.high.abs()) + 1.0
    steepest = max(function.steepest, function.magnitude)
    total = weighted(slope, largest) + steepest * weighted(weights, largest)
    return slope, constant, (total + constant.abs()) * dot_loss(weights, 32)


def _place(function: ScalarFunction, region: Region, center: Region) -> _Place:
    z0 = (center.low + center.high) / 2.0
    error = length(center.high - center.low)
    return _Place(function, region.low, region.high, z0, (region.reach + error) * NORM)


def _chords(place: _Place, alpha: Tensor | None) -> _Lines:
    function, low, high = place.function, place.low, place.high
    smallest, largest = function.slopes(low, high)
    width = high - low
    chord = (function.value(high) - function.value(low)) / width.clamp_min(1e-300)
    chord = torch.where(width > 1e-9, chord, smallest)
    chord = torch.minimum(torch.maximum(chord, smallest), largest)
    below = chord
    if alpha is not None:
        below = smallest + alpha * (largest - smallest)
    floor, _ = function.offsets(low, high, below)
    _, roof = function.offsets(low, high, chord)
    return _Lines(below, chord, floor, roof, False)


def _tangents(place: _Place) -> _Lines:
    # The center may lie outside of a region that was tightened.
    inside = torch.minimum(torch.maximum(place.z0, place.low), place.high)
    slope = place.function.slope_at(inside)
    floor, roof = place.function.offsets(place.low, place.high, slope)
    return _Lines(slope, slope, floor, roof, True)


def _bound(place: _Place, weights: Tensor, lines: _Lines) -> tuple[Tensor, Tensor]:
    up, down = weights.clamp_min(0.0), weights.clamp_max(0.0)
    slope = up * lines.below + down * lines.above
    each = up * lines.floor + down * lines.roof
    constant = _sums(each)
    if lines.touching and not place.function.kinks:
        return slope, torch.maximum(constant, _coupled_curves(place, weights, slope, each))
    return slope, constant


def _coupled_curves(place: _Place, weights: Tensor, slope: Tensor, each: Tensor) -> Tensor:
    # |w (f(z) - f(z0) - f'(z0) d)| <= |w| curvature d^2 / 2; above the interval's own gap, that.
    start = weights * place.function.value(place.z0) - slope * place.z0
    error = place.z0.abs() + (place.high - place.low) + 1.0
    start = start - weights.abs() * outward(error) * error * place.function.magnitude
    bend = weights.abs() * place.function.curvature
    span = torch.maximum(place.high - place.z0, place.z0 - place.low) ** 2
    gap = (start - each).clamp_min(0.0)
    scale = bend.flatten(1).amax(dim=1).double()
    best = torch.full_like(scale, -torch.inf)
    for share in _SHARES:
        weight = (scale * share).to(bend)
        t = weight.view(-1, *[1] * (bend.ndim - 1))
        drop = torch.minimum(gap, (bend - t).clamp_min(0.0) * span / 2.0)
        fall = _sums(drop) + weight.double() * place.reach**2 / 2.0
        best = torch.maximum(best, _sums(start) - fall * (1.0 + dot_loss(bend, 32)))
    return best


def _sums(values: Tensor) -> Tensor:
    return values.flatten(1).sum(dim=1, dtype=torch.float64)
