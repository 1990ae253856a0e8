"""Bound the operator norms of average pooling and of means from above."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robustcl.certify.ops.spectral_norm import spectral_norm
from robustcl.certify.rounding import round_up
from robustcl.core.choices import CERTIFIED_NORMS, CertifiedNorm


def average_norms(
    operators: Sequence[Callable[[Tensor], Tensor]], sizes: Sequence[int], *, scale: float = 1.0
) -> dict[CertifiedNorm, float]:
    """Bound the norms of average pooling.

    It is the same on every channel and separable, so its L2 norm is the product of the norms of its
    one-dimensional operators, which are formed and measured: overlaps, padding, ceil_mode and
    adaptive cells need no case of their own.

    Args:
        operators: (N, 1, length) to (N, 1, length) along each axis.
        sizes: Lengths of the axes.
        scale: What the product is multiplied by.

    Returns:
        Upper bounds in float64 by norm, rounded up.
    """
    found: dict[CertifiedNorm, float] = {}
    for norm in CERTIFIED_NORMS:
        total = scale
        for operator, size in zip(operators, sizes, strict=True):
            columns = operator(torch.eye(size, dtype=torch.float64)[:, None])[:, 0]
            largest = float(columns.abs().sum(dim=0).max())
            total *= spectral_norm(columns) if norm == "l2" else largest
        found[norm] = round_up(total)
    return found


def mean_norms(sizes: list[int]) -> tuple[dict[CertifiedNorm, float], int]:
    """Bound the norms of a mean over some axes.

    Args:
        sizes: Lengths of these axes.

    Returns:
        Norms by name, and how many numbers one mean is taken of.
    """
    count = math.prod(sizes)
    return {"l2": round_up(1.0 / math.sqrt(count)), "linf": round_up(1.0)}, count
