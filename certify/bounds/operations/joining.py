"""Describe operations that are neither affine in one input nor act on each number alone."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustcl.certify.bounds.dense_norm import round_up
from robustcl.certify.bounds.pooling_norm import two
from robustcl.errors import UnsupportedError


@dataclass(frozen=True)
class Image:
    """The image in pixel units: the first step of every network."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that does not depend on the image.

    Args:
        value: (1, *shape) float64.
    """

    value: Tensor


@dataclass(frozen=True)
class Sum:
    """A sum of its inputs.

    Args:
        signs: 1.0 or -1.0 per input.
    """

    signs: tuple[float, ...]


@dataclass(frozen=True)
class Concatenation:
    """Its inputs side by side.

    Args:
        axis: Of the concatenation, the batch not counted.
        sizes: Of the inputs along it.
    """

    axis: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class MaxPool:
    """Max-pooling over windows.

    Args:
        layer: Kernel, stride, padding and dilation.
        input_shape: (C, H, W).
        covers: The most windows that one pixel lies in.
    """

    layer: nn.MaxPool2d
    input_shape: tuple[int, ...]
    covers: int

    def windows(self, values: Tensor) -> Tensor:
        """Lay the windows out side by side.

        Args:
            values: (B, C, H, W).

        Returns:
            (B, C, taps, windows), -inf outside of the image.

        Raises:
            UnsupportedError: With ceil_mode.
        """
        if self.layer.ceil_mode:
            raise UnsupportedError("MaxPool2d with ceil_mode has a global bound only")
        layer, channels = self.layer, self.input_shape[0]
        top, left = two(layer.padding)
        filled = functional.pad(values, (left, left, top, top), value=-torch.inf)
        columns = functional.unfold(
            filled,
            two(layer.kernel_size),
            dilation=two(layer.dilation),
            stride=two(layer.stride or layer.kernel_size),
        )
        return columns.unflatten(1, (channels, -1))

    def scatter(self, columns: Tensor) -> Tensor:
        """Add what belongs to each window's pixels up, the transpose of `windows`.

        Args:
            columns: (B, C, taps, windows).

        Returns:
            (B, C, H, W).
        """
        layer = self.layer
        return functional.fold(
            columns.flatten(1, 2),
            (self.input_shape[1], self.input_shape[2]),
            two(layer.kernel_size),
            dilation=two(layer.dilation),
            padding=two(layer.padding),
            stride=two(layer.stride or layer.kernel_size),
        )


def max_pool(layer: nn.MaxPool2d, input_shape: tuple[int, ...]) -> MaxPool:
    """Describe a max-pooling layer on images of a given size.

    Args:
        layer: The layer.
        input_shape: (C, H, W).

    Returns:
        The operation.
    """
    covers = 1
    for size, step, gap in zip(
        two(layer.kernel_size),
        two(layer.stride or layer.kernel_size),
        two(layer.dilation),
        strict=True,
    ):
        # A pixel lies in the windows whose taps k d are congruent to it modulo the stride.
        residues = [tap * gap % step for tap in range(size)]
        covers *= max(residues.count(residue) for residue in residues)
    return MaxPool(layer, input_shape, covers)


def max_pool_norm(operation: MaxPool) -> float:
    """Bound the L2 Lipschitz constant of max-pooling by sqrt(C).

    Args:
        operation: The pooling; C is the most windows that cover one pixel.

    Returns:
        An upper bound; for Linf it is 1.
    """
    return round_up(math.sqrt(operation.covers))
