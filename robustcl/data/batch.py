"""Hold a batch: what flows through every method."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Hold some images with their labels and their places in the data set.

    Args:
        index: (B,) int64 positions in the data set.
        images: (B, C, H, W) float32 in [0, 1].
        labels: (B,) int64 classes.
    """

    index: Tensor
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.index)

    def select(self, rows: Tensor) -> "Batch":
        """Return some of the images.

        Args:
            rows: (R,) positions in the batch, on the CPU.

        Returns:
            The batch of these.
        """
        there = rows.to(self.images.device)
        return Batch(self.index[rows], self.images[there], self.labels[there])

    def to(self, device: str | torch.device) -> "Batch":
        """Return the batch with images and labels on a device.

        Args:
            device: Where to.

        Returns:
            The batch; the index stays on the CPU.
        """
        return Batch(self.index, self.images.to(device), self.labels.to(device))
