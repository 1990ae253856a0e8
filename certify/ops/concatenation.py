"""Bound values side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from robustcl.certify.norms import Norm
from robustcl.certify.ops.enclosures import (
    Ball,
    LinearBound,
    LineChoice,
    Region,
    Slopes,
    Zonotope,
)
from robustcl.certify.ops.operation import Operation
from robustcl.certify.ops.patches import Field
from robustcl.certify.rounding import NORM, SQUARES, round_up


@dataclass(frozen=True)
class Concatenation(Operation):
    """Put values side by side.

    Args:
        axis: Of the concatenation, the batch not counted.
        sizes: Of the inputs along it.
    """

    axis: int
    sizes: tuple[int, ...]

    @override
    def lipschitz(self, norm: Norm) -> float:
        return 1.0

    @override
    def lipschitz_from_image(self, inputs: Sequence[float], norm: Norm) -> float:
        return round_up(math.hypot(*inputs)) if norm == "l2" else max(inputs)

    @override
    def enclose(self, inputs: Sequence[Region], ball: Ball, center: Region | None) -> Region:
        axis = self.axis + 1
        low = torch.cat([source.low for source in inputs], axis)
        high = torch.cat([source.high for source in inputs], axis)
        parts = torch.stack([source.reach for source in inputs])
        return Region(low, high, torch.linalg.vector_norm(parts, dim=0) * NORM + SQUARES)

    @override
    def slopes(self, slopes: Slopes, inputs: Sequence[Region], count: int) -> Sequence[Slopes]:
        centers = slopes.center.split(self.sizes, self.axis + 1)
        if slopes.spread is None:
            return [Slopes(center, None, slopes.rho) for center in centers]
        spreads = slopes.spread.split(self.sizes, self.axis + 1)
        pairs = zip(centers, spreads, strict=True)
        return [Slopes(center, spread, slopes.rho) for center, spread in pairs]

    @override
    def open_units(self, inputs: Sequence[Region]) -> Tensor:
        return torch.zeros_like(inputs[0].reach)

    @override
    def zonotope(
        self, zonotope: Zonotope, inputs: Sequence[Region], count: int, made: int
    ) -> Sequence[Zonotope]:
        pieces = zonotope.rows.split(self.sizes, self.axis + 2)
        return [Zonotope(piece, zonotope.rho) for piece in pieces]

    @override
    def linear_bound(
        self, weights: Tensor, inputs: Sequence[Region], choice: LineChoice
    ) -> LinearBound:
        zero = torch.zeros(len(weights), dtype=torch.float64, device=weights.device)
        return LinearBound(weights.split(self.sizes, self.axis + 1), zero, zero)

    @override
    def reads(self, field: Field) -> Field | None:
        return field if self.axis == 0 else None
