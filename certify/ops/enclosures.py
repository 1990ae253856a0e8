"""Hold what is known of values, gradients and linear bounds while a network is walked through."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.certify.rounding import (
    NORM,
    UNITS,
    dot,
    dot_loss,
    down,
    length,
    ulps,
    unit_roundoff,
    up,
)
from robustcl.core.choices import CertifiedNorm


@dataclass(frozen=True, eq=False)
class Region:
    """Enclose the values of one step over a ball.

    Args:
        low: (B, *shape) in the network's type, at most every value.
        high: (B, *shape), at least every value.
        reach: (B,) float64, at least the L2 distance of every value from the one at the center.
    """

    low: Tensor
    high: Tensor
    reach: Tensor

    @property
    def largest(self) -> Tensor:
        """At least the size of every value, (B, *shape)."""
        return torch.maximum(self.low.abs(), self.high.abs())


@dataclass(frozen=True, eq=False)
class Ball:
    """Hold balls around images.

    Args:
        norm: Of the balls.
        radius: (B,) float64 in pixel units.
        images: (B, C, H, W) float64.
        dtype: The type that values inside the network are computed in.
    """

    norm: CertifiedNorm
    radius: Tensor
    images: Tensor
    dtype: torch.dtype

    def region(self) -> Region:
        """Enclose the images of the balls.

        Returns:
            The enclosure.
        """
        images = self.images
        radius = sided(self.radius, images) * (1.0 + ulps(images))
        low, high = images - radius, images + radius
        if self.dtype != torch.float64 or bool((self.radius > 0).any()):
            low, high = down(down(low).to(self.dtype)), up(up(high).to(self.dtype))
        reach = self.radius * NORM
        if self.norm == "linf":
            reach = reach * math.sqrt(images[0].numel())
        return Region(low, high, reach)


@dataclass(frozen=True, eq=False)
class Slopes:
    """Enclose the gradients of some scalars with respect to one step, over a ball.

    Every gradient g satisfies |g - center| <= spread entry by entry and |g - center|_2 <= rho.

    Args:
        center: (B * K, *shape).
        spread: (B * K, *shape), or None where only rho is kept.
        rho: (B * K,).
    """

    center: Tensor
    spread: Tensor | None
    rho: Tensor

    def tightened(self) -> "Slopes":
        """Tighten each of the two deviations by the other.

        Returns:
            The same gradients.
        """
        if self.spread is None:
            return self
        rho = torch.minimum(self.rho, length(self.spread))
        cap = sided(up(rho.to(self.spread)), self.spread)
        return Slopes(self.center, torch.minimum(self.spread, cap), rho)


@dataclass(frozen=True, eq=False)
class Zonotope:
    """Enclose the gradients of some scalars with respect to one step, over a ball.

    Every gradient is rows[0] + sum_u t_u rows[u] + e with |t_u| <= 1 and |e|_2 <= rho. Row u > 0
    belongs to one undecided unit, and t_u is the same at every step that is reached from there.

    Args:
        rows: (B * K, 1 + m, *shape).
        rho: (B * K,) float64.
    """

    rows: Tensor
    rho: Tensor

    def largest(self) -> Tensor:
        """Bound the size of every number without the rest.

        Returns:
            (B * K, *shape), raised by what the sum may lose.
        """
        count = self.rows.shape[1]
        return torch.linalg.vector_norm(self.rows, 1, dim=1) * (
            1.0 + 2.0 * (count + 16) * unit_roundoff(self.rows)
        )

    def filled(self, count: int) -> Tensor:
        """Add rows of zeros.

        Args:
            count: Rows that are wanted.

        Returns:
            (B * K, count, *shape).
        """
        rows = self.rows
        if rows.shape[1] == count:
            return rows
        return torch.cat(
            [rows, rows.new_zeros(len(rows), count - rows.shape[1], *rows.shape[2:])], 1
        )


@dataclass(frozen=True, eq=False)
class LineChoice:
    """Say which lines are wanted where an operation may choose.

    Args:
        count: K, scalars per image.
        centers: Enclosures of the inputs at the images.
        alpha: (B * K, *shape) in [0, 1]: where between its smallest and its largest slope each line
            below lies; None for adaptive ones.
        tangents: Whether tangents at the center are tried besides adaptive slopes.
    """

    count: int
    centers: Sequence[Region]
    alpha: Tensor | None = None
    tangents: bool = True


@dataclass(frozen=True, eq=False)
class LinearBound:
    """Hold a lower bound that is linear in the inputs of an operation.

    Args:
        coefficients: (B * K, *shape) per input.
        constant: (B * K,) what is added.
        lost: (B * K,) at least what rounding may have added wrongly, besides one rounding of each
            coefficient.
    """

    coefficients: tuple[Tensor, ...]
    constant: Tensor
    lost: Tensor


def product_with_loss(weights: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply rows with rows, and bound the rounding.

    Args:
        weights: (R, ...).
        values: (R, ...).

    Returns:
        (R,) products and (R,) what they may have lost.
    """
    return dot(weights, values), dot_loss(weights) * dot(weights.abs(), values.abs())


def sided(values: Tensor, like: Tensor) -> Tensor:
    """Give numbers per image as many axes as values have.

    Args:
        values: (B,).
        like: (B, ...).

    Returns:
        (B, 1, ...).
    """
    return values.view(-1, *[1] * (like.ndim - 1))


def times(values: Tensor, factors: Tensor, count: int) -> Tensor:
    """Multiply what belongs to K scalars per image by factors that are the same for all K.

    Args:
        values: (B * K, ...).
        factors: (B, ...).
        count: K.

    Returns:
        (B * K, ...).
    """
    return (values.unflatten(0, (-1, count)) * factors[:, None]).flatten(0, 1)


def gamma(terms: int, dtype: torch.dtype) -> float:
    """Bound the relative rounding of sums of products, in any order of summation.

    Args:
        terms: Products in a sum, and other roundings.
        dtype: Their type.

    Returns:
        k u / (1 - k u).
    """
    count = terms * UNITS[dtype]
    return count / (1.0 - count)
