"""Describe the rotation of pairs of channels, and its inverse, between which MaxMin is |z|."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from robustcl.certify.ops.affine import POINTWISE, Affine, raised_rows
from robustcl.certify.rounding import round_up
from robustcl.core.choices import CertifiedNorm


def pairing(input_shape: tuple[int, ...]) -> Affine:
    """Describe (a, b) -> ((a + b) / 2, (a - b) / 2) on each pair of channels (2i, 2i + 1).

    Args:
        input_shape: (C, ...), C even.

    Returns:
        The operation.
    """
    return _mixing(input_shape, 0.5, {"l2": round_up(math.sqrt(0.5)), "linf": 1.0})


def unpairing(input_shape: tuple[int, ...], inner: float = 1.0, outer: float = 1.0) -> Affine:
    """Describe (s, d) -> (s + d, s - d) on each pair of channels, which undoes `pairing`.

    Args:
        input_shape: (C, ...), C even.
        inner: Linf norm of what leads to the pairs.
        outer: Linf norm of the same without `pairing`. MaxMin does not raise it, although the sum
            of two numbers may be twice as large as either: so much counts for all of MaxMin.

    Returns:
        The operation.
    """
    norms: dict[CertifiedNorm, float] = {"l2": round_up(math.sqrt(2.0))}
    norms["linf"] = min(2.0, round_up(outer / inner)) if inner > 0 else 2.0
    return _mixing(input_shape, 1.0, norms)


def paired(values: Tensor) -> Tensor:
    """Mix each pair of rows of a weight, or entries of a bias, as `pairing` does.

    Args:
        values: (2 m, ...).

    Returns:
        The same shape.
    """
    return _mixed(values[None], 0.5)[0]


def _mixed(values: Tensor, factor: float, sign: float = -1.0) -> Tensor:
    first, second = values[:, 0::2], values[:, 1::2]
    pairs = torch.stack([first + second, first + sign * second], dim=2)
    return pairs.flatten(1, 2).mul_(factor)


def _mixing(shape: tuple[int, ...], factor: float, norms: Mapping[CertifiedNorm, float]) -> Affine:
    # A symmetric matrix of blocks factor ((1, 1), (1, -1)).
    rows = torch.tensor(factor * math.sqrt(2.0), dtype=torch.float64)

    def apply(x: Tensor) -> Tensor:
        return _mixed(x, factor)

    def absolute(x: Tensor) -> Tensor:
        return _mixed(x, factor, 1.0)

    def make(dtype: torch.dtype) -> Affine:
        return Affine(
            apply=apply,
            absolute=absolute,
            transpose=apply,
            absolute_transpose=absolute,
            offset=None,
            norms=norms,
            rows=raised_rows(rows.expand(1, *[1] * len(shape)), dtype),
            magnitude=2.0 * factor,
            terms=2,
            dtype=dtype,
            remake=make,
            sliding=POINTWISE,
        )

    return make(torch.float64)
