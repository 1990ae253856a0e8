"""Account for rounding in float64 and in float32, so that either may carry a proof."""

import torch
from torch import Tensor

UNITS = {torch.float64: 2.0**-53, torch.float32: 2.0**-24}
TINY = {torch.float64: 1e-290, torch.float32: 1e-30}
OUTWARD = {torch.float64: 1e-12, torch.float32: 4e-6}
NORM = 1.0 + 1e-10  # a sum of many numbers in float64
ROUND_UP = 1.0 + 1e-10  # a norm in float64
LEAST = 1e-290  # more than numbers too small for their digits may lose
SQUARES = 1e-150  # roots of sums of squares that underflow lose less


def unit_roundoff(values: Tensor) -> float:
    """Return the unit roundoff of a tensor's type.

    Args:
        values: float64 or float32.

    Returns:
        2^-53 or 2^-24.
    """
    return UNITS[values.dtype]


def ulps(values: Tensor) -> float:
    """Return what a few roundings of one number may change, relative to it.

    Args:
        values: float64 or float32.

    Returns:
        Eight unit roundoffs.
    """
    return 8.0 * UNITS[values.dtype]


def outward(values: Tensor) -> float:
    """Return what evaluating a smooth activation may change, relative to 1 + |z|.

    Args:
        values: float64 or float32.

    Returns:
        Many unit roundoffs.
    """
    return OUTWARD[values.dtype]


def down(values: Tensor) -> Tensor:
    """Lower numbers by more than the rounding of their last operation.

    Args:
        values: Any.

    Returns:
        Smaller numbers.
    """
    return values.abs().mul_(-ulps(values)).sub_(TINY[values.dtype]).add_(values)


def up(values: Tensor) -> Tensor:
    """Raise numbers by more than the rounding of their last operation.

    Args:
        values: Any.

    Returns:
        Larger numbers.
    """
    return values.abs().mul_(ulps(values)).add_(TINY[values.dtype]).add_(values)


def length(values: Tensor) -> Tensor:
    """Bound the L2 norm of every row from above.

    Args:
        values: (B, ...).

    Returns:
        (B,) float64, summed in float64 and rounded up.
    """
    sums = torch.linalg.vector_norm(values.flatten(1), dim=1, dtype=torch.float64)
    return sums * NORM + SQUARES


def row_lengths(values: Tensor, dim: int = -1) -> Tensor:
    """Measure L2 norms along an axis, whatever the scale of the numbers.

    Args:
        values: Any shape, float64.
        dim: The axis.

    Returns:
        The norms, right to a few units roundoff; sums of squares neither overflow nor underflow.
    """
    largest = values.abs().amax(dim=dim, keepdim=True)
    usable = (largest > 0) & torch.isfinite(largest)
    scale = torch.where(usable, largest, torch.ones_like(largest))
    return torch.linalg.vector_norm(values / scale, dim=dim) * scale.squeeze(dim)


def dot(first: Tensor, second: Tensor) -> Tensor:
    """Multiply rows with rows, and add up in float64.

    Args:
        first: (B, ...).
        second: (B, ...).

    Returns:
        (B,) float64; each product has one rounding of its own type (see `dot_loss`).
    """
    return (first * second).flatten(1).sum(dim=1, dtype=torch.float64)


def weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Bound the sums of values' sizes times weights from above.

    Args:
        values: (B * K, ...) of any sign.
        weights: (B, ...) >= 0, the same for all K rows of an image.

    Returns:
        (B * K,) float64, raised by more than the sum may lose.
    """
    rows = values.abs().reshape(len(weights), -1, weights[0].numel())
    sums = torch.bmm(rows, weights.reshape(len(weights), -1, 1))
    return sums.flatten().double() * (1.01 + 2.0 * rows.shape[2] * unit_roundoff(rows))


def dot_loss(values: Tensor, terms: int = 0) -> float:
    """Bound what rounding may change in sums of products of such rows.

    Args:
        values: (B, ...).
        terms: Numbers that were added in the rows' own type before.

    Returns:
        The error relative to the sum of the products' sizes.
    """
    own = (terms + 16) * UNITS[values.dtype]
    return 2.0 * (own + values[0].numel() * UNITS[torch.float64])


def round_up(value: float) -> float:
    """Raise a norm by more than the rounding of its float64 computation.

    Args:
        value: A norm >= 0.

    Returns:
        The norm times 1 + 1e-10, and at least what is lost below the smallest normal number.
    """
    return value * ROUND_UP + LEAST
