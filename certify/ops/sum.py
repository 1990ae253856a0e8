"""Bound sums and differences of values."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from typing_extensions import override

from robustcl.certify.ops.enclosures import Ball, LinearBound, LineChoice, Region, Slopes, Zonotope
from robustcl.certify.ops.operation import Operation
from robustcl.certify.ops.patches import Field
from robustcl.certify.rounding import NORM, down, round_up, up
from robustcl.core.choices import CertifiedNorm


@dataclass(frozen=True)
class Sum(Operation):
    """Add values, or subtract them.

    Args:
        signs: 1.0 or -1.0 per input.
    """

    signs: tuple[float, ...]

    @property
    @override
    def is_mixing(self) -> bool:
        return True

    @override
    def lipschitz(self, norm: CertifiedNorm) -> float:
        return 1.0

    @override
    def lipschitz_from_image(self, inputs: Sequence[float], norm: CertifiedNorm) -> float:
        return round_up(sum(inputs))

    @override
    def enclose(self, inputs: Sequence[Region], ball: Ball, center: Region | None) -> Region:
        low = high = torch.zeros_like(inputs[0].low)
        for sign, source in zip(self.signs, inputs, strict=True):
            low = low + (source.low if sign > 0 else -source.high)
            high = high + (source.high if sign > 0 else -source.low)
        reach = torch.stack([source.reach for source in inputs]).sum(dim=0) * NORM
        return Region(down(low), up(high), reach)

    @override
    def slopes(self, slopes: Slopes, inputs: Sequence[Region], count: int) -> Sequence[Slopes]:
        return [replace(slopes, center=sign * slopes.center) for sign in self.signs]

    @override
    def open_units(self, inputs: Sequence[Region]) -> Tensor:
        return torch.zeros_like(inputs[0].reach)

    @override
    def zonotope(
        self, zonotope: Zonotope, inputs: Sequence[Region], count: int, made: int
    ) -> Sequence[Zonotope]:
        return [replace(zonotope, rows=sign * zonotope.rows) for sign in self.signs]

    @override
    def linear_bound(
        self, weights: Tensor, inputs: Sequence[Region], choice: LineChoice
    ) -> LinearBound:
        zero = torch.zeros(len(weights), dtype=torch.float64, device=weights.device)
        return LinearBound(tuple(sign * weights for sign in self.signs), zero, zero)

    @override
    def reads(self, field: Field) -> Field | None:
        return field
