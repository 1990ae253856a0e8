"""Bound a weighted sum of activations from below by a linear function over a region."""

from dataclasses import dataclass

import torch
from torch import Tensor

from certify.bounds.operations.activation import Activation
from certify.bounds.regions import Region
from certify.bounds.rounding import NORM, dot_loss, length, outward, weighted

SHARES = (0.0625, 0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True, eq=False)
class _Place:
    # One activation over a region, (B, *shape), or (B * K, *shape) once repeated.
    operation: Activation
    low: Tensor
    high: Tensor
    z0: Tensor
    reach: Tensor  # L2 distance of every z from z0

    def repeated(self, count: int) -> "_Place":
        low, high, z0, reach = (
            value.repeat_interleave(count, 0)
            for value in (self.low, self.high, self.z0, self.reach)
        )
        return _Place(self.operation, low, high, z0, reach)


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


def activation_lines(
    operation: Activation,
    region: Region,
    center: Region,
    weights: Tensor,
    *,
    count: int,
    alpha: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Bound sum_i weights_i f(z_i) from below by slope.z + constant, over a region of z.

    Two families of lines are compared by their value at the center, for each direction: chords and
    adaptive slopes, and tangents at the center. The constant is the better of the sum of the
    offsets on the intervals and a bound that couples them by the L2 ball around z0: for any t > 0,
    sum_i [w_i f(z_i) - s_i z_i] >= sum_i min_z [w_i f(z) - s_i z + t (z - z_{0,i})^2 / 2]
    - t reach^2 / 2. The minima are known for functions with one kink at 0, and follow from the
    curvature for smooth ones.

    Args:
        operation: The activation f.
        region: Of z, (B, *shape).
        center: Of z at the image.
        weights: (B * K, *shape).
        count: K.
        alpha: (B * K, *shape) in [0, 1], where the slopes of the lines below lie between the
            smallest and the largest slope; None for adaptive ones, and no tangents otherwise.

    Returns:
        slope (B * K, *shape), constant (B * K,), and at least the rounding lost (B * K,).

    Reference:
        Zhang et al., CROWN, NeurIPS 2018, for the lines; Chiu et al., SDP-CROWN, ICML 2025, for
        the coupled offset of ReLU. That of smooth functions is ours.
    """
    one = _place(operation, region, center)
    place = one.repeated(count)
    if alpha is not None:
        slope, constant = _bound(place, weights, _chords(place, alpha))
    else:
        slope, constant = _bound(place, weights, _chords(one, None).repeated(count))
        other, rest = _bound(place, weights, _tangents(one).repeated(count))
        gain = _sums((other - slope) * place.z0) + rest - constant
        better = gain > 0
        slope = torch.where(better.view(-1, *[1] * (slope.ndim - 1)), other, slope)
        constant = torch.where(better, rest, constant)
    largest = torch.maximum(one.low.abs(), one.high.abs()) + 1.0
    total = weighted(slope, largest) + operation.steepest * weighted(weights, largest)
    return slope, constant, (total + constant.abs()) * dot_loss(weights, 32)


def _place(operation: Activation, region: Region, center: Region) -> _Place:
    z0 = (center.low + center.high) / 2.0
    error = length(center.high - center.low)
    return _Place(operation, region.low, region.high, z0, (region.reach + error) * NORM)


def _chords(place: _Place, alpha: Tensor | None) -> _Lines:
    operation, low, high = place.operation, place.low, place.high
    smallest, largest = operation.slopes(low, high)
    width = high - low
    chord = (operation.value(high) - operation.value(low)) / width.clamp_min(1e-300)
    chord = torch.where(width > 1e-9, chord, smallest)
    chord = torch.minimum(torch.maximum(chord, smallest), largest)
    below = chord
    if alpha is not None:
        below = smallest + alpha * (largest - smallest)
    elif operation.is_piecewise_linear:
        below = torch.where(high > -low, operation.slope_at(high), operation.slope_at(low))
    floor, _ = operation.offsets(low, high, below)
    _, roof = operation.offsets(low, high, chord)
    return _Lines(below, chord, floor, roof, False)


def _tangents(place: _Place) -> _Lines:
    # The center may lie outside of a region that was tightened; a unit whose sign is sure there
    # must get the slope of that side, since `_coupled_kinks` counts it as exact.
    inside = torch.minimum(torch.maximum(place.z0, place.low), place.high)
    slope = place.operation.slope_at(inside)
    floor, roof = place.operation.offsets(place.low, place.high, slope)
    return _Lines(slope, slope, floor, roof, True)


def _bound(place: _Place, weights: Tensor, lines: _Lines) -> tuple[Tensor, Tensor]:
    up, down = weights.clamp_min(0.0), weights.clamp_max(0.0)
    slope = up * lines.below + down * lines.above
    each = up * lines.floor + down * lines.roof
    constant = _sums(each)
    if place.operation.is_piecewise_linear:
        return slope, torch.maximum(constant, _coupled_kinks(place, weights, slope))
    if lines.touching and place.operation.jump == 0.0:
        return slope, torch.maximum(constant, _coupled_curves(place, weights, slope, each))
    return slope, constant


def _coupled_kinks(place: _Place, weights: Tensor, slope: Tensor) -> Tensor:
    # f(z) = left z + (1 - left) relu(z), so w f - s z = c relu(z) - g z.
    left = place.operation.slope_at(torch.full_like(place.z0[:1], -1.0))
    # Units that may lie on both sides, 0 itself included: `slope_at` takes the left side there.
    open_units = (place.low <= 0) & (place.high > 0)
    c = torch.where(open_units, weights * (1.0 - left), 0.0)
    g = torch.where(open_units, slope - weights * left, 0.0)
    z0 = torch.where(open_units, place.z0, 0.0)
    scale = length(c) / place.reach.clamp_min(1e-300)
    best = torch.full_like(scale, -torch.inf)
    for share in SHARES:
        weight = (scale * share).clamp(1e-15, 1e15).to(c)
        t = weight.view(-1, *[1] * (c.ndim - 1))
        weight = weight.double()
        least = torch.minimum(c - g - t * z0, g + t * z0).clamp_max(0.0)
        gained = _sums(t * z0**2 / 2.0)
        paid = _sums(least**2 / (2.0 * t)) + weight * place.reach**2 / 2.0
        bound = gained - paid - (gained + paid) * dot_loss(weights, 32)
        best = torch.maximum(best, bound.nan_to_num(nan=-torch.inf))
    return best


def _coupled_curves(place: _Place, weights: Tensor, slope: Tensor, each: Tensor) -> Tensor:
    # |w (f(z) - f(z0) - f'(z0) d)| <= |w| curvature d^2 / 2; above the interval's own gap, that.
    start = weights * place.operation.value(place.z0) - slope * place.z0
    error = place.z0.abs() + (place.high - place.low) + 1.0
    start = start - weights.abs() * outward(error) * error
    bend = weights.abs() * place.operation.curvature
    span = torch.maximum(place.high - place.z0, place.z0 - place.low) ** 2
    gap = (start - each).clamp_min(0.0)
    scale = bend.flatten(1).amax(dim=1).double()
    best = torch.full_like(scale, -torch.inf)
    for share in (0.0, 0.0625, 0.125, 0.25, 0.5, 1.0):
        weight = (scale * share).to(bend)
        t = weight.view(-1, *[1] * (bend.ndim - 1))
        drop = torch.minimum(gap, (bend - t).clamp_min(0.0) * span / 2.0)
        fall = _sums(drop) + weight.double() * place.reach**2 / 2.0
        best = torch.maximum(best, _sums(start) - fall * (1.0 + dot_loss(bend, 32)))
    return best


def _sums(values: Tensor) -> Tensor:
    return values.flatten(1).sum(dim=1, dtype=torch.float64)
