"""Bound max-pooling."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
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
from robustcl.certify.ops.registry import Call, Value, recognises
from robustcl.certify.rounding import NORM, TINY, dot, dot_loss, length, round_up, ulps, weighted
from robustcl.core.choices import CertifiedNorm

_Two = tuple[int, int]


@dataclass(frozen=True)
class MaxPool(Operation):
    """Take the largest number of every window.

    Args:
        kernel: Height and width of the windows.
        stride: From one window to the next.
        padding: Pixels of minus infinity on every side.
        dilation: From one pixel of a window to the next.
        ceil_mode: Whether the last window may stick out.
        input_shape: (C, H, W).
    """

    kernel: _Two
    stride: _Two
    padding: _Two
    dilation: _Two
    ceil_mode: bool
    input_shape: tuple[int, ...]

    @property
    def covers(self) -> int:
        """The most windows that one pixel lies in."""
        covers = 1
        for size, step, gap in zip(self.kernel, self.stride, self.dilation, strict=True):
            # A pixel lies in the windows whose taps k d are congruent to it modulo the stride.
            residues = [tap * gap % step for tap in range(size)]
            covers *= max(residues.count(residue) for residue in residues)
        return covers

    @override
    def lipschitz(self, norm: CertifiedNorm) -> float:
        return round_up(math.sqrt(self.covers)) if norm == "l2" else 1.0

    @override
    def enclose(self, inputs: Sequence[Region], ball: Ball, center: Region | None) -> Region:
        (source,) = inputs
        reach = source.reach * (self.lipschitz("l2") * NORM)
        return Region(self._pooled(source.low), self._pooled(source.high), reach)

    @override
    def slopes(self, slopes: Slopes, inputs: Sequence[Region], count: int) -> Sequence[Slopes]:
        chosen = self._chosen(inputs[0])
        decided = (chosen.sum(dim=2, keepdim=True) == 1).to(chosen)
        center = slopes.center.flatten(2)[:, :, None]
        kept = self._scattered(times(center, chosen * decided, count))
        open_part = times(center, 1.0 - decided, count).abs()
        root = math.sqrt(self.covers) * NORM
        lost = ulps(center) * self.covers * length(center)
        rho = root * (slopes.rho + length(open_part)) + lost
        if slopes.spread is None:
            return [Slopes(kept, None, rho)]
        wide = slopes.spread.flatten(2)[:, :, None] + open_part + ulps(center) * center.abs()
        spread = self._scattered(times(wide, chosen, count)) * (1.0 + self.covers * ulps(wide))
        return [Slopes(kept, spread, rho).tightened()]

    @override
    def open_units(self, inputs: Sequence[Region]) -> Tensor:
        is_open = (self._chosen(inputs[0]).sum(dim=2) != 1).flatten(1).any(dim=1)
        return torch.zeros_like(inputs[0].reach).masked_fill(is_open, torch.inf)

    @override
    def zonotope(
        self, zonotope: Zonotope, inputs: Sequence[Region], count: int, made: int
    ) -> Sequence[Zonotope]:
        # Of decided windows, where each hands its number to one pixel.
        rows = zonotope.rows
        chosen = self._chosen(inputs[0]).to(rows).repeat_interleave(count, 0)
        columns = rows.flatten(3)[:, :, :, None] * chosen[:, None]
        pulled = self._scattered(columns.flatten(0, 1)).unflatten(0, rows.shape[:2])
        lost = ulps(rows) * self.covers * length(zonotope.largest())
        root = math.sqrt(self.covers) * NORM
        return [Zonotope(pulled, root * (zonotope.rho + lost) + TINY[rows.dtype])]

    @override
    def linear_bound(
        self, weights: Tensor, inputs: Sequence[Region], choice: LineChoice
    ) -> LinearBound:
        # From below by the pixel whose lower bound is largest; from above by the largest upper
        # bound, or by that pixel itself where no other can be larger.
        (source,) = inputs
        low, high = self._windows(source.low), self._windows(source.high)
        winner = functional.one_hot(low.argmax(dim=2), low.shape[2]).movedim(-1, 2)
        highest = high.amax(dim=2)
        others = high.masked_fill(winner.bool(), -torch.inf).amax(dim=2)
        decided = low.amax(dim=2) >= others
        winner, decided, highest = (
            value.to(low).repeat_interleave(choice.count, 0) for value in (winner, decided, highest)
        )
        flat = weights.flatten(2)
        kept = torch.where((flat >= 0) | decided.bool(), flat, torch.zeros_like(flat))
        rest = (flat - kept).clamp_max(0.0)
        part = self._scattered(kept[:, :, None] * winner)
        constant = dot(rest, highest)
        lost = dot_loss(flat, 16) * (dot(flat.abs(), highest.abs()) + constant.abs())
        pixels = weighted(part, source.largest)
        return LinearBound((part,), constant, lost + dot_loss(part, self.covers) * pixels)

    def _pooled(self, values: Tensor) -> Tensor:
        return functional.max_pool2d(
            values, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def _windows(self, values: Tensor) -> Tensor:
        # (B, C, taps, windows), -inf outside of the image.
        if self.ceil_mode:
            raise self.missing("bound on a ball with ceil_mode")
        top, left = self.padding
        filled = functional.pad(values, (left, left, top, top), value=-torch.inf)
        columns = functional.unfold(filled, self.kernel, dilation=self.dilation, stride=self.stride)
        return columns.unflatten(1, (self.input_shape[0], -1))

    def _scattered(self, columns: Tensor) -> Tensor:
        # The transpose of `_windows`: what belongs to each window's pixels added up.
        return functional.fold(
            columns.flatten(1, 2),
            (self.input_shape[1], self.input_shape[2]),
            self.kernel,
            dilation=self.dilation,
            padding=self.padding,
            stride=self.stride,
        )

    def _chosen(self, source: Region) -> Tensor:
        # Pixels of each window that may be its largest, as numbers.
        low, high = self._windows(source.low), self._windows(source.high)
        return (high >= low.amax(dim=2, keepdim=True)).to(low)


@recognises("max_pool2d.default", reads="self kernel_size stride padding dilation ceil_mode")
def _max_pool2d(call: Call) -> Value:
    source = call.value("self")
    if len(source.shape) != 3:
        raise call.refusal(f"on values of shape {source.shape} per image, not (C, H, W)")
    kernel, padding, dilation = (
        _two(call, name) for name in ("kernel_size", "padding", "dilation")
    )
    stride = _two(call, "stride") if call.arguments["stride"] else kernel
    ceil = bool(call.arguments["ceil_mode"])
    return call.emit(MaxPool(kernel, stride, padding, dilation, ceil, source.shape))


def _two(call: Call, name: str) -> _Two:
    given = call.wholes(name)
    if len(given) not in (1, 2):
        raise call.refusal(f"with {name} {given}")
    return given[0], given[-1]
