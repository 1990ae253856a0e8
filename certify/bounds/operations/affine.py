"""Describe affine operations by what bounds need: W, |W|, their transposes, norms, row norms."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustcl.certify.bounds.dense_norm import dense_norm, round_up
from robustcl.certify.bounds.rounding import UNITS, row_lengths
from robustcl.certify.norms import NORMS, Norm

Linear = Callable[[Tensor], Tensor]
WIDE = 256
SPARE_TERMS = 16  # roundings besides those of the sum: folding, the offset, the bound itself


@dataclass(frozen=True, eq=False)
class Sliding:
    """Say which pixels an operation reads that does the same everywhere, zero padding aside.

    Args:
        kernel: Pixels from the first to the last that one output reads, along each axis.
        stride: Pixels of the input from one output to the next.
        padding: Zeros before the first pixel.
        bare: The operation without padding that gives patches of a size (height, width).
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    bare: "Callable[[int, int], Affine]"


@dataclass(frozen=True, eq=False)
class Affine:
    """Hold x -> W x + b on batches, in float64 or float32.

    Args:
        apply: (B, *in) to W x, (B, *out).
        absolute: (B, *in) to |W| x, entry by entry.
        pull: (B, *out) to W^T g, (B, *in).
        pull_absolute: (B, *out) to |W|^T g.
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

    apply: Linear
    absolute: Linear
    pull: Linear
    pull_absolute: Linear
    offset: Tensor | None
    norms: Mapping[Norm, float]
    rows: Tensor
    magnitude: float
    terms: int
    dtype: torch.dtype
    remake: "Callable[[torch.dtype], Affine]"
    sliding: Sliding | None = None
    terms_of_offset: Tensor | None = None

    @property
    def offset_size(self) -> Tensor | float:
        """What the rounding of b is relative to."""
        if self.terms_of_offset is not None:
            return self.terms_of_offset
        return 0.0 if self.offset is None else self.offset.abs()

    @property
    def rounding(self) -> float:
        """gamma_k = k u / (1 - k u) for sums of `terms` products, in any order of summation."""
        count = (self.terms + SPARE_TERMS) * UNITS[self.dtype]
        return count / (1.0 - count)


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
    norms: dict[Norm, float] = {
        "l2": dense_norm(weight),
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
            pull=lambda g: (g.to(inner) @ own).to(dtype),
            pull_absolute=lambda g: (g.to(inner) @ absolute).to(dtype),
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
    norms: dict[Norm, float] = dict.fromkeys(NORMS, largest)

    is_alike = all(value is None or set(value.shape[-2:]) <= {1} for value in (factor, offset))

    def make(dtype: torch.dtype) -> Affine:
        own = factor.to(dtype)
        size = own.abs()
        whole = Affine(
            apply=lambda x: x * own,
            absolute=lambda x: x * size,
            pull=lambda g: g * own,
            pull_absolute=lambda g: g * size,
            offset=None if offset is None else offset.to(dtype),
            norms=norms,
            rows=raised_rows(factor.abs(), dtype),
            magnitude=largest,
            terms=1,
            dtype=dtype,
            remake=make,
            terms_of_offset=None if offset_size is None else offset_size.to(dtype),
        )
        return replace(whole, sliding=pointwise(whole)) if is_alike else whole

    return make(torch.float64)


def averaging(
    function: Linear, input_shape: tuple[int, ...], norms: Mapping[Norm, float], terms: int
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

    def pull(cotangents: Tensor) -> Tensor:
        point = cotangents.new_zeros(len(cotangents), *input_shape)
        return torch.func.vjp(function, point)[1](cotangents)[0]  # pyright: ignore[reportCallIssue]

    return _alike(function, pull, norms, terms)


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

    return _alike(there, back, dict.fromkeys(NORMS, 1.0), 0)


def pointwise(operation: Affine) -> Sliding:
    """Describe how an operation acts on patches that treats each pixel alone, and all alike.

    Args:
        operation: The operation.

    Returns:
        A kernel of one pixel.
    """
    return Sliding((1, 1), (1, 1), (0, 0), lambda *_: operation)


def _alike(function: Linear, pull: Linear, norms: Mapping[Norm, float], terms: int) -> Affine:
    # An operation without negative entries whose functions serve every type.
    def make(dtype: torch.dtype) -> Affine:
        return Affine(
            apply=function,
            absolute=function,
            pull=pull,
            pull_absolute=pull,
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
