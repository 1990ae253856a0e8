"""Draw the parameters of views, one set per image or one for all."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Draws:
    """Draw numbers for the images of a batch.

    Args:
        images: (B, ...) the batch, on whose device the numbers are wanted.
        generator: Source of randomness, on any device.
        shared: Whether all images of the batch get the same numbers, so that what one gets does
            not depend on the others.
    """

    images: Tensor
    generator: torch.Generator
    shared: bool = False

    @property
    def rows(self) -> int:
        """Sets of numbers that are drawn."""
        return 1 if self.shared else len(self.images)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw uniformly from a range.

        Args:
            low: Lower end.
            high: Upper end.
            *shape: Of the numbers per image.

        Returns:
            (B, *shape) float32.
        """
        draw = torch.rand(self.rows, *shape, generator=self.generator, device=self.generator.device)
        return self.expanded(draw.mul_(high - low).add_(low))

    def normal(self) -> Tensor:
        """Draw a standard normal number per pixel.

        Returns:
            (B, C, H, W) float32.
        """
        shape = (self.rows, *self.images.shape[1:])
        return self.expanded(
            torch.randn(shape, generator=self.generator, device=self.generator.device)
        )

    def expanded(self, drawn: Tensor) -> Tensor:
        """Give every image its row.

        Args:
            drawn: (rows, ...).

        Returns:
            (B, ...) on the images' device.
        """
        return drawn.to(self.images.device).expand(len(self.images), *drawn.shape[1:])
