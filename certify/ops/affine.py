"""Bound affine operations by W, |W|, their transposes, norms and row norms."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

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
    gamma,
    sided,
)
from robustcl.certify.ops.operation import Operation
from robustcl.certify.ops.patches import Field
from robustcl.certify.ops.spectral_norm import spectral_norm
from robustcl.certify.rounding import (
    NORM,
    TINY,
    UNITS,
    dot,
    dot_loss,
    down,
    length,
    round_up,
    row_lengths,
    up,
    weighted,
)
from robustcl.core.choices import CERTIFIED_NORMS, CertifiedNorm

LinearMap = Callable[[Tensor], Tensor]
WIDE = 256
SPARE_TERMS = 16  # roundings besides those of the sum: folding, the offset, the bound itself


@dataclass(frozen=True, eq=False)
class Sliding:
    """Say how an operation acts that does the same at every pixel, zero padding aside.

    Args:
        kernel: Pixels from the first to the last that one output reads, along each axis.
        stride: Pixels of the input from one output to the next.
        padding: Zeros before the first pixel.
        bare: The operation without padding that gives patches of a size (height, width); None for
            the operation itself.
    """

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    bare: "Callable[[int, int], Affine] | None" = None


POINTWISE = Sliding()  # treats each pixel alone, and all alike


@dataclass(frozen=True, eq=False)
class Affine(Operation):
    """Hold x -> W x + b on batches, in float64 or float32.

    Args:
        apply: (B, *in) to W x, (B, *out).
        absolute: (B, *in) to |W| x, entry by entry.
        transpose: (B, *out) to W^T g, (B, *in).
        absolute_transpose: (B, *out) to |W|^T g.
        offset: b, which broadcasts to (B, *out), or None.
        terms_of_offset: Sizes of the terms that b is the sum of, where they may cancel; else None.
        norms: Guaranteed operator norms from p to p, by the name of p; where an operation undoes
            an earlier one, what the norms from there to here multiply up to counts.
        rows: An upper bound of the L2 norm of each row, which broadcasts to (B, *out).
        magnitude: An upper bound of the spectral norm of |W|, for rounding errors alone.
        terms: The most products that are added into one number, forwards or backwards; 0 where
            numbers are only moved.
        dtype: The type that all this is computed in.
        remake: The same operation in another type.
        sliding: How it acts on patches; None where that depends on their place.
    """

    apply: LinearMap
    absolute: LinearMap
    transpose: LinearMap
    absolute_transpose: LinearMap
    offset: Tensor | None
    norms: Mapping[CertifiedNorm, float]
    rows: Tensor
    magnitude: float
    terms: int
    dtype: torch.dtype
    remake: "Callable[[torch.dtype], Affine]"
    sliding: Sliding | None = None
    terms_of_offset: Tensor | None = None

    @property
    @override
    def affine(self) -> "Affine":
        return self

    @property
    @override
    def is_mixing(self) -> bool:
        return True

    @property
    @override
    def patch_padding(self) -> tuple[int, int]:
        return (0, 0) if self.sliding is None else self.sliding.padding

    @property
    def offset_size(self) -> Tensor | float:
        """What the rounding of b is relative to."""
        if self.terms_of_offset is not None:
            return self.terms_of_offset
        return 0.0 if self.offset is None else self.offset.abs()

    @property
    def rounding(self) -> float:
        """gamma_k for sums of `terms` products, in any order of summation."""
        return gamma(self.terms + SPARE_TERMS, self.dtype)

    @override
    def in_type(self, dtype: torch.dtype) -> Self:
        return self.remake(dtype)  # pyright: ignore[reportReturnType]

    @override
    def lipschitz(self, norm: CertifiedNorm) -> float:
        return self.norms[norm]

    @override
    def enclose(self, inputs: Sequence[Region], ball: Ball, center: Region | None) -> Region:
        # By intervals, and by |row| times the reach of the input around the value at the center.
        (source,) = inputs
        middle = (source.low + source.high) / 2.0
        radius = up(torch.maximum(source.high - middle, middle - source.low))
        loss = self.rounding
        spread = self.absolute(radius * (1.0 + 4 * loss) + 2 * loss * middle.abs())
        value = self.apply(middle)
        if self.offset is not None:
            value = value + self.offset
            spread = spread + 2 * loss * self.offset_size
        spread = up(spread) + TINY[value.dtype]
        low, high = down(value - spread), up(value + spread)
        if center is not None:
            row = up(self.rows * up(sided(source.reach, value).to(value)))
            low = torch.maximum(low, down(center.low - row))
            high = torch.minimum(high, up(center.high + row))
        return Region(low, high, source.reach * (self.norms["l2"] * NORM))

    @override
    def slopes(self, slopes: Slopes, inputs: Sequence[Region], count: int) -> list[Slopes]:
        center = self.transpose(slopes.center)
        if not self.terms:
            spread = None if slopes.spread is None else self.transpose(slopes.spread)
            return [Slopes(center, spread, slopes.rho)]
        loss = 2.0 * self.rounding
        lost = loss * self.magnitude * length(slopes.center)
        rho = slopes.rho * (self.norms["l2"] * NORM) + lost + TINY[center.dtype]
        if slopes.spread is None:
            return [Slopes(center, None, rho)]
        # The spread is a sum of nonnegative terms: what it loses is relative, and paid beforehand.
        wide = slopes.center.abs().mul_(loss).add_(TINY[center.dtype])
        wide.add_(slopes.spread, alpha=1.0 + 2.0 * loss)
        return [Slopes(center, self.absolute_transpose(wide), rho).tightened()]

    @override
    def open_units(self, inputs: Sequence[Region]) -> Tensor:
        return torch.zeros_like(inputs[0].reach)

    @override
    def zonotope(
        self, zonotope: Zonotope, inputs: Sequence[Region], count: int, made: int
    ) -> list[Zonotope]:
        rows = zonotope.rows
        pulled = self.transpose(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        if not self.terms:
            return [Zonotope(pulled, zonotope.rho)]
        # Each row loses at most loss |W|^T |row|, all together loss |W|^T sum |row|.
        lost = 2.0 * self.rounding * self.magnitude * length(zonotope.largest())
        rho = zonotope.rho * (self.norms["l2"] * NORM) + lost + TINY[rows.dtype]
        return [Zonotope(pulled, rho)]

    @override
    def linear_bound(
        self, weights: Tensor, inputs: Sequence[Region], choice: LineChoice
    ) -> LinearBound:
        largest = self.absolute(inputs[0].largest)
        constant = torch.zeros(len(weights), dtype=torch.float64, device=weights.device)
        if self.offset is not None:
            largest = largest + self.offset_size
            constant = dot(weights, self.offset.expand_as(weights))
        largest = largest.expand(len(weights) // choice.count, *weights.shape[1:])
        lost = dot_loss(weights, self.terms) * weighted(weights, largest)
        return LinearBound((self.transpose(weights),), constant, lost)

    @override
    def reads(self, field: Field) -> Field | None:
        own = self.sliding
        return None if own is None else field.read_by(own.kernel, own.stride, own.padding)

    @override
    def on_patches(self, size: tuple[int, int]) -> "Affine":
        if self.sliding is None or self.sliding.bare is None:
            return self
        return self.sliding.bare(*size)


def dense(weight: Tensor, bias: Tensor | None, bias_size: Tensor | None = None) -> Affine:
    """Describe a linear layer.

    Args:
        weight: (m, n) float64.
        bias: (m,) float64, or None.
        bias_size: (m,) sizes of the terms that the bias is the sum of; None for its own.

    Returns:
        The operation on (B, n).
    """
    size = weight.abs()
    norms: dict[CertifiedNorm, float] = {
        "l2": spectral_norm(weight),
        "linf": round_up(float(size.sum(dim=1).max())),
    }
    rows = row_lengths(weight)[None]
    magnitude = holder(size.sum(dim=1), size.sum(dim=0))

    wide = max(weight.shape) > WIDE  # long sums lose too much in float32

    def make(dtype: torch.dtype) -> Affine:
        inner = torch.float64 if wide else dtype
        own = weight.to(inner)
        absolute = own.abs()
        return Affine(
            apply=lambda x: (x.to(inner) @ own.T).to(dtype),
            absolute=lambda x: (x.to(inner) @ absolute.T).to(dtype),
            transpose=lambda g: (g.to(inner) @ own).to(dtype),
            absolute_transpose=lambda g: (g.to(inner) @ absolute).to(dtype),
            offset=None if bias is None else bias[None].to(dtype),
            norms=norms,
            rows=raised_rows(rows, dtype),
            magnitude=magnitude,
            # In float64 a sum of up to 10^7 terms loses less than one rounding of float32.
            terms=1 if wide and dtype == torch.float32 else max(weight.shape),
            dtype=dtype,
            remake=make,
            terms_of_offset=None if bias_size is None else bias_size[None].to(dtype),
        )

    return make(torch.float64)


def scaling(factor: Tensor, offset: Tensor | None, offset_size: Tensor | None = None) -> Affine:
    """Describe a multiplication entry by entry: BatchNorm in eval mode, input normalization.

    Args:
        factor: Broadcasts to (B, *shape), float64.
        offset: Likewise, or None.
        offset_size: Likewise, sizes of the terms that it is the sum of; None for its own.

    Returns:
        The operation.
    """
    largest = round_up(float(factor.abs().max()))
    norms: dict[CertifiedNorm, float] = dict.fromkeys(CERTIFIED_NORMS, largest)
    is_alike = all(value is None or set(value.shape[-2:]) <= {1} for value in (factor, offset))

    def make(dtype: torch.dtype) -> Affine:
        own = factor.to(dtype)
        size = own.abs()
        return Affine(
            apply=lambda x: x * own,
            absolute=lambda x: x * size,
            transpose=lambda g: g * own,
            absolute_transpose=lambda g: g * size,
            offset=None if offset is None else offset.to(dtype),
            norms=norms,
            rows=raised_rows(factor.abs(), dtype),
            magnitude=largest,
            terms=1,
            dtype=dtype,
            remake=make,
            sliding=POINTWISE if is_alike else None,
            terms_of_offset=None if offset_size is None else offset_size.to(dtype),
        )

    return make(torch.float64)


def averaging(
    function: LinearMap,
    input_shape: tuple[int, ...],
    norms: Mapping[CertifiedNorm, float],
    terms: int,
) -> Affine:
    """Describe a linear function without negative entries, such as average pooling.

    Args:
        function: (B, *input_shape) to (B, *out).
        input_shape: Shape of one input.
        norms: Guaranteed operator norms.
        terms: The most entries of one row or column.

    Returns:
        The operation; its rows are bounded by its L2 norm.
    """

    def transpose(cotangents: Tensor) -> Tensor:
        point = cotangents.new_zeros(len(cotangents), *input_shape)
        return torch.func.vjp(function, point)[1](cotangents)[0]  # pyright: ignore[reportCallIssue]

    return _positive(function, transpose, norms, terms)


def reshaping(input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> Affine:
    """Describe a change of shape.

    Args:
        input_shape: Without the batch.
        output_shape: Without the batch.

    Returns:
        The operation.
    """

    def there(x: Tensor) -> Tensor:
        return x.reshape(len(x), *output_shape)

    def back(g: Tensor) -> Tensor:
        return g.reshape(len(g), *input_shape)

    return _positive(there, back, dict.fromkeys(CERTIFIED_NORMS, 1.0), 0)


def _positive(
    function: LinearMap, transpose: LinearMap, norms: Mapping[CertifiedNorm, float], terms: int
) -> Affine:
    # An operation without negative entries whose functions serve every type.
    def make(dtype: torch.dtype) -> Affine:
        return Affine(
            apply=function,
            absolute=function,
            transpose=transpose,
            absolute_transpose=transpose,
            offset=None,
            norms=norms,
            rows=raised_rows(torch.tensor(norms["l2"], dtype=torch.float64), dtype),
            magnitude=norms["l2"],
            terms=terms,
            dtype=dtype,
            remake=make,
        )

    return make(torch.float64)


def raised_rows(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Round norms of rows up in another type.

    Args:
        rows: float64.
        dtype: torch.float64 or torch.float32.

    Returns:
        Upper bounds.
    """
    return (rows * round_up(1.0)).to(dtype) * (1.0 + 8.0 * UNITS[dtype])


def holder(rows: Tensor, columns: Tensor) -> float:
    """Bound the spectral norm of a matrix without negative entries.

    Args:
        rows: Sums of its rows.
        columns: Sums of its columns.

    Returns:
        The root of the product of the largest ones, rounded up.
    """
    return round_up(math.sqrt(float(rows.max()) * float(columns.max())))
