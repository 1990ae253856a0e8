"""Bound values side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from robustcl.certify.ops.enclosures import Ball, LinearBound, LineChoice, Region, Slopes, Zonotope
from robustcl.certify.ops.index_map import moved
from robustcl.certify.ops.operation import Constant, Operation
from robustcl.certify.ops.patches import Field
from robustcl.certify.ops.registry import Call, Value, recognises
from robustcl.certify.rounding import NORM, SQUARES, round_up
from robustcl.core.choices import CertifiedNorm


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
    def lipschitz(self, norm: CertifiedNorm) -> float:
        return 1.0

    @override
    def lipschitz_from_image(self, inputs: Sequence[float], norm: CertifiedNorm) -> float:
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


@recognises("cat.default", reads="tensors dim")
def _cat(call: Call) -> Value:
    parts, axis = _parts(call), call.axis("dim")
    return call.emit(Concatenation(axis, tuple(part.shape[axis] for part in parts)), *parts)


@recognises("stack.default", reads="tensors dim")
def _stack(call: Call) -> Value:
    axis = call.axis("dim", extra=1)
    parts = [
        moved(call, lambda places: places.unsqueeze(axis + 1), part)[0] for part in _parts(call)
    ]
    return call.emit(Concatenation(axis, (1,) * len(parts)), *parts)


@recognises("slice_scatter.default", reads="self src dim start end step")
def _slice_scatter(call: Call) -> Value:
    return _scattered(call)


@recognises("select_scatter.default", reads="self src dim index")
def _select_scatter(call: Call) -> Value:
    return _scattered(call)


def _scattered(call: Call) -> Value:
    # Values of the second replace some of the first: both laid out flat, and each taken once.
    rest = {key: value for key, value in call.arguments.items() if key not in ("self", "src")}
    whole, part = (_moving(call, call.arguments[name]) for name in ("self", "src"))
    flat = [moved(call, lambda places: places.flatten(1), value)[0] for value in (whole, part)]
    sizes = tuple(value.shape[0] for value in flat)
    both = call.emit(Concatenation(0, sizes), *flat, shape=(sum(sizes),))

    def function(places: Tensor) -> object:
        first, second = places.split(sizes, 1)
        first, second = first.view(-1, *whole.shape), second.view(-1, *part.shape)
        return call.function(self=first, src=second, **rest)

    return moved(call, function, both)[0]


def _parts(call: Call) -> list[Value]:
    given = call.arguments["tensors"]
    if not isinstance(given, list | tuple):
        raise call.refusal("of something else than a list")
    return [_moving(call, part) for part in given]


def _moving(call: Call, part: object) -> Value:
    if isinstance(part, Value):
        return part
    if not isinstance(part, Tensor) or part.is_complex():
        raise call.refusal("of something else than real tensors")
    if not bool((part == part[:1]).all()):
        raise call.refusal("with a constant that differs between the images of a batch")
    shape = tuple(part.shape[1:])
    return call.steps.emit(call.place, Constant(part[:1].double()), (), shape)
