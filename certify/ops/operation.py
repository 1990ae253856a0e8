"""State what bounds ask of an operation; each kind of operation answers in a file of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

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
    product_with_loss,
)
from robustcl.certify.ops.patches import Field
from robustcl.certify.ops.scalar_function import ScalarFunction
from robustcl.certify.rounding import down, round_up, up
from robustcl.core.choices import CertifiedNorm
from robustcl.core.errors import UnsupportedError

if TYPE_CHECKING:
    from robustcl.certify.ops.affine import Affine

Shape = tuple[int, ...]
ANY_MODEL = "smoothing:form=vote certifies any model, first_order estimates"


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation of a network, with the rules that bounds are computed by.

    A rule that an operation lacks refuses with the operation's name and the methods that still
    work; the drivers add where in the network it stands (see `Step.at`). All rules are about real
    arithmetic with the stored weights, and pay for their own rounding.
    """

    @property
    def title(self) -> str:
        """The operation's name, for messages."""
        return type(self).__name__

    @property
    def is_constant(self) -> bool:
        """Whether it does not depend on the image, so that nothing flows back through it."""
        return False

    @property
    def is_mixing(self) -> bool:
        """Whether it adds numbers up, so that lines of their own may bound them more tightly."""
        return False

    @property
    def affine(self) -> "Affine | None":
        """The operation itself where it is an affine map."""
        return None

    @property
    def function(self) -> ScalarFunction | None:
        """What it does to every number alone, where that is all it does."""
        return None

    @property
    def patch_padding(self) -> tuple[int, int]:
        """Zeros before the first pixel, along each axis, that it reads patches from."""
        return 0, 0

    @property
    def leap(self) -> float:
        """How far in Linf the true operation may lie from the one that its rules are about."""
        return 0.0

    def in_type(self, dtype: torch.dtype) -> Self:
        """Return the same operation computed in another type.

        Args:
            dtype: torch.float64 or torch.float32.

        Returns:
            The operation; what rounding its weights changes is counted as rounding everywhere.
        """
        del dtype
        return self

    def lipschitz(self, norm: CertifiedNorm) -> float:
        """Bound the Lipschitz constant with respect to one input.

        Args:
            norm: Of both input and output.

        Raises:
            UnsupportedError: When it has no such rule.
        """
        del norm
        raise self.missing("global Lipschitz bound")

    def lipschitz_from_image(self, inputs: Sequence[float], norm: CertifiedNorm) -> float:
        """Bound the Lipschitz constant from the image to the output.

        Args:
            inputs: The same from the image to each input.
            norm: Of both image and output.

        Returns:
            An upper bound.
        """
        (first,) = inputs
        return round_up(first * self.lipschitz(norm))

    def enclose(self, inputs: Sequence[Region], ball: Ball, center: Region | None) -> Region:
        """Enclose the output over a ball.

        Args:
            inputs: Enclosures of the inputs.
            ball: The ball.
            center: The output at the image itself; None while that is computed.

        Raises:
            UnsupportedError: When it has no such rule.
        """
        del inputs, ball, center
        raise self.missing("interval bound")

    def slopes(self, slopes: Slopes, inputs: Sequence[Region], count: int) -> Sequence[Slopes]:
        """Bound gradients with respect to the inputs by those with respect to the output.

        Args:
            slopes: Of K scalars per image, with respect to the output.
            inputs: Enclosures of the inputs, for B images.
            count: K.

        Raises:
            UnsupportedError: When it has no such rule.
        """
        del slopes, inputs, count
        raise self.missing("bound of its slopes on a ball")

    def open_units(self, inputs: Sequence[Region]) -> Tensor:
        """Count the rows that `zonotope` adds.

        Args:
            inputs: Enclosures of the inputs, for B images.

        Returns:
            (B,) float64, infinite where it has no zonotope.
        """
        return torch.full_like(inputs[0].reach, torch.inf)

    def zonotope(
        self, zonotope: Zonotope, inputs: Sequence[Region], count: int, made: int
    ) -> Sequence[Zonotope]:
        """Bound gradients with respect to the inputs by a zonotope.

        Args:
            zonotope: With respect to the output.
            inputs: Enclosures of the inputs, for B images.
            count: Scalars per image.
            made: Rows that have an owner so far.

        Raises:
            UnsupportedError: When it has no such rule.
        """
        del zonotope, inputs, count, made
        raise self.missing("zonotope of its slopes")

    def linear_bound(
        self, weights: Tensor, inputs: Sequence[Region], choice: LineChoice
    ) -> LinearBound:
        """Bound a weighted sum of outputs from below by a linear function of the inputs.

        Args:
            weights: (B * K, *shape).
            inputs: Enclosures of the inputs, for B images.
            choice: Which lines are wanted where there are several.

        Raises:
            UnsupportedError: When it has no such rule.
        """
        del weights, inputs, choice
        raise self.missing("linear bound")

    def reads(self, field: Field) -> Field | None:
        """Say which pixels of the inputs some pixels of the output depend on.

        Args:
            field: Pixels of the output.

        Returns:
            Pixels of each input; None where it does not act on every patch alike.
        """
        del field
        return None

    def on_patches(self, size: tuple[int, int]) -> "Operation":
        """Return what it does on patches of the input, without padding.

        Args:
            size: Height and width of the output's patches.

        Returns:
            The operation.
        """
        del size
        return self

    def missing(self, rule: str) -> UnsupportedError:
        """Say that a rule is missing.

        Args:
            rule: What it is.

        Returns:
            The error to raise, with the methods that still work.
        """
        return UnsupportedError(f"{self.title} has no {rule}; {ANY_MODEL}")


@dataclass(frozen=True, eq=False)
class Image(Operation):
    """The image in pixel units: the first step of every network."""

    @override
    def lipschitz_from_image(self, inputs: Sequence[float], norm: CertifiedNorm) -> float:
        del inputs, norm
        return 1.0

    @override
    def lipschitz(self, norm: CertifiedNorm) -> float:
        del norm
        return 1.0

    @override
    def enclose(self, inputs: Sequence[Region], ball: Ball, center: Region | None) -> Region:
        del inputs, center
        return ball.region()

    @override
    def reads(self, field: Field) -> Field | None:
        return field


@dataclass(frozen=True, eq=False)
class Constant(Operation):
    """A tensor that does not depend on the image.

    Args:
        value: (1, *shape) float64.
    """

    value: Tensor

    @property
    @override
    def is_constant(self) -> bool:
        return True

    @override
    def in_type(self, dtype: torch.dtype) -> Self:
        return replace(self, value=self.value.to(dtype))

    @override
    def lipschitz(self, norm: CertifiedNorm) -> float:
        del norm
        return 1.0

    @override
    def lipschitz_from_image(self, inputs: Sequence[float], norm: CertifiedNorm) -> float:
        del inputs, norm
        return 0.0

    @override
    def enclose(self, inputs: Sequence[Region], ball: Ball, center: Region | None) -> Region:
        del inputs, center
        value = self.value.expand(len(ball.radius), *self.value.shape[1:])
        return Region(down(value), up(value), torch.zeros_like(ball.radius))

    @override
    def linear_bound(
        self, weights: Tensor, inputs: Sequence[Region], choice: LineChoice
    ) -> LinearBound:
        del inputs, choice
        constant, lost = product_with_loss(weights, self.value.expand_as(weights))
        return LinearBound((), constant, lost)
