"""Bound functions that act on every number alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from robustcl.certify.ops.enclosures import (
    Ball,
    LinearBound,
    LineChoice,
    Region,
    Slopes,
    Zonotope,
    times,
)
from robustcl.certify.ops.operation import Operation
from robustcl.certify.ops.patches import Field
from robustcl.certify.ops.scalar_function import ScalarFunction
from robustcl.certify.ops.scalar_linear_bounds import scalar_linear_bounds
from robustcl.certify.rounding import NORM, TINY, length, outward, ulps, up
from robustcl.core.choices import CertifiedNorm

NOISE = 16.0  # times what evaluating a slope may lose: so little is no unit of its own


@dataclass(frozen=True, eq=False)
class SlopeRange:
    """Enclose the slopes of a function by middle +- width.

    Args:
        middle: (B, *shape).
        width: (B, *shape), raised by what computing both and multiplying by middle may lose.
        largest: (B, *shape) at least the slopes' sizes.
        is_open: (B, *shape), where width is more than rounding.
    """

    middle: Tensor
    width: Tensor
    largest: Tensor
    is_open: Tensor


@dataclass(frozen=True, eq=False)
class Elementwise(Operation):
    """Apply one function to every number.

    Args:
        of: The function.
    """

    of: ScalarFunction

    @property
    @override
    def title(self) -> str:
        return self.of.name

    @property
    @override
    def function(self) -> ScalarFunction:
        return self.of

    @property
    @override
    def leap(self) -> float:
        return self.of.leap

    @override
    def lipschitz(self, norm: CertifiedNorm) -> float:
        return self.of.steepest

    @override
    def enclose(self, inputs: Sequence[Region], ball: Ball, center: Region | None) -> Region:
        (source,) = inputs
        low, high = self.of.range(source.low, source.high)
        return Region(low, high, source.reach * self.of.steepest * NORM)

    @override
    def slopes(self, slopes: Slopes, inputs: Sequence[Region], count: int) -> Sequence[Slopes]:
        own = self._slope_range(inputs[0])
        raised = 1.0 + ulps(own.largest)  # pays for the products and sums below
        center = times(slopes.center, own.middle, count)
        change = times(slopes.center, own.width * raised, count).abs_()
        steepest = own.largest.flatten(1).amax(dim=1).double().repeat_interleave(count)
        rho = (slopes.rho * steepest + length(change)) * NORM
        if slopes.spread is None:
            return [Slopes(center, None, rho)]
        first, second = change.unflatten(0, (-1, count)), slopes.spread.unflatten(0, (-1, count))
        spread = torch.addcmul(first, second, (own.largest * raised)[:, None]).flatten(0, 1)
        return [Slopes(center, spread, rho).tightened()]

    @override
    def open_units(self, inputs: Sequence[Region]) -> Tensor:
        return self._slope_range(inputs[0]).is_open.flatten(1).sum(dim=1).double()

    @override
    def zonotope(
        self, zonotope: Zonotope, inputs: Sequence[Region], count: int, made: int
    ) -> Sequence[Zonotope]:
        own = self._slope_range(inputs[0])
        rows = (zonotope.rows.unflatten(0, (-1, count)) * own.middle[:, None, None]).flatten(0, 1)
        raised = own.width * (1.0 + ulps(own.width))
        change = times(zonotope.largest(), raised, count)
        is_open = own.is_open.repeat_interleave(count, 0)
        steepest = own.largest.flatten(1).amax(dim=1).double().repeat_interleave(count)
        closed = length(change.masked_fill(is_open, 0.0))
        rho = (zonotope.rho * steepest + closed) * NORM + TINY[rows.dtype]
        most = int(own.is_open.flatten(1).sum(dim=1).max())
        if not most:
            return [Zonotope(rows, rho)]
        places = own.is_open.flatten(1).to(rows).topk(most, dim=1).indices
        places = places.repeat_interleave(count, 0)
        moves = change.masked_fill(~is_open, 0.0).flatten(1).gather(1, places)
        fresh = rows.new_zeros(len(rows), most, rows[0, 0].numel())
        fresh.scatter_(2, places[:, :, None], moves[:, :, None])
        filled = Zonotope(rows, rho).filled(made)
        return [Zonotope(torch.cat([filled, fresh.view(-1, most, *rows.shape[2:])], 1), rho)]

    @override
    def linear_bound(
        self, weights: Tensor, inputs: Sequence[Region], choice: LineChoice
    ) -> LinearBound:
        part, constant, lost = scalar_linear_bounds(self.of, inputs[0], weights, choice)
        return LinearBound((part,), constant, lost)

    @override
    def reads(self, field: Field) -> Field | None:
        return field

    def _slope_range(self, source: Region) -> SlopeRange:
        low, high = self.of.slopes(source.low, source.high)
        middle, width = (low + high) / 2.0, (high - low) / 2.0
        largest = torch.maximum(low.abs(), high.abs())
        if self.of.is_exact:
            return SlopeRange(middle, width, largest, width > 0)
        width = up(width) + ulps(width) * largest
        # Not-a-number counts as open.
        is_open = ~(width <= NOISE * outward(width) * (1.0 + largest))
        return SlopeRange(middle, width, largest, is_open)
