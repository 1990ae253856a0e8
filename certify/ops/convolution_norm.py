"""Bound the operator norm of a convolution from above."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.certify.one_thread import each, spare_threads
from robustcl.certify.ops.spectral_norm import spectral_norm
from robustcl.certify.rounding import round_up
from robustcl.core.choices import CertifiedNorm
from robustcl.core.errors import UnsupportedError

_MANY = 256  # entries of a symbol, from which it pays to treat several rows at a time


Two = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Say how the kernel of a convolution moves over images.

    Args:
        stride: Along height and width, as all of these.
        padding: Pixels before and after.
        dilation: From one tap to the next.
        groups: Groups of channels.
        mode: What is padded: 'zeros', 'reflect', 'replicate' or 'circular'.
    """

    stride: Two = (1, 1)
    padding: tuple[Two, Two] = ((0, 0), (0, 0))
    dilation: Two = (1, 1)
    groups: int = 1
    mode: str = "zeros"

    @property
    def same_zeros(self) -> Two | None:
        """The zeros on either side, where they are as many on both; else None."""
        (top, bottom), (left, right) = self.padding
        return (top, left) if self.mode == "zeros" and (top, left) == (bottom, right) else None

    def padded(self, images: Tensor) -> Tensor:
        """Pad images.

        Args:
            images: (B, C, H, W).

        Returns:
            Larger ones.
        """
        (top, bottom), (left, right) = self.padding
        mode = "constant" if self.mode == "zeros" else self.mode
        return functional.pad(images, (left, right, top, bottom), mode=mode)


def convolution_norm(
    kernel: Tensor, windows: Windows, input_shape: Sequence[int], *, norm: CertifiedNorm
) -> float:
    """Bound the norm of a convolution on images of a given size.

    For L2 the largest spectral norm of the DFT symbol on a grid of N frequencies per axis. With
    zero padding N = n + min(padding, k_eff - 1), k_eff = dilation (k - 1) + 1: on that circle no
    output wraps into another, and the convolution is a piece of the circular one. Circular
    padding: N = n. Reflect and replicate padding: the norm of the padding operator times that of
    the convolution on the padded image. A stride folds frequencies that differ by multiples of
    N/stride onto one another: their symbols side by side, over the root of their number, are the
    symbol of the strided operator (N is rounded up to a multiple of the stride, or, for circular
    padding where that is not possible, the stride is ignored, as it only drops rows). For Linf
    the largest l1 norm of an output channel's kernel; no padding mode can exceed it.

    Args:
        kernel: (out, in / groups, h, w).
        windows: How it moves.
        input_shape: (C, H, W) of its input.
        norm: 'l2' (L2 to L2) or 'linf' (Linf to Linf).

    Returns:
        An upper bound in float64, rounded up.

    Raises:
        UnsupportedError: When the padding mode is unknown.

    Reference:
        Sedghi et al., The Singular Values of Convolutional Layers, ICLR 2019, for the circular
        case; Delattre et al., ICML 2023, for zero padding.
    """
    kernel = kernel.detach().double()
    if norm == "linf":
        return round_up(float(kernel.abs().flatten(1).sum(dim=1).max()))
    sizes, strides, factor = [], [], 1.0
    for axis, (low, high) in enumerate(windows.padding):
        n, reach = input_shape[1 + axis], windows.dilation[axis] * (kernel.shape[2 + axis] - 1)
        size, stride = n + low + high, windows.stride[axis]
        if windows.mode == "zeros":
            size = n + min(max(low, high), reach)
        elif windows.mode == "circular" and low + high == reach:
            size, stride = n, stride if n % stride == 0 else 1
        elif windows.mode in ("reflect", "replicate", "circular"):
            factor *= _padding_norm(n, low, high, windows.mode)
        else:
            raise UnsupportedError(f"padding_mode {windows.mode!r} has no known norm")
        sizes.append(-(-size // stride) * stride)
        strides.append(stride)
    groups = kernel.chunk(windows.groups)
    largest = max(_symbol_norm(part, sizes, strides, windows.dilation) for part in groups)
    return round_up(factor * largest)


def padding_copies(windows: Windows, input_shape: Sequence[int]) -> int:
    """Count how often padding shows one pixel to a convolution.

    Args:
        windows: How it moves.
        input_shape: (C, H, W) of its input.

    Returns:
        The most places of the padded image that hold one pixel: 1 where zeros are padded.
    """
    if windows.mode == "zeros":
        return 1
    counts = [
        _most_copies(input_shape[1 + axis], low, high, windows.mode)
        for axis, (low, high) in enumerate(windows.padding)
    ]
    return math.prod(counts)


def _padding_norm(size: int, low: int, high: int, mode: str) -> float:
    # Every padded pixel copies one pixel, so P^T P is diagonal and counts the copies.
    return math.sqrt(_most_copies(size, low, high, mode))


def _most_copies(size: int, low: int, high: int, mode: str) -> int:
    line = torch.arange(size, dtype=torch.float64)[None, None]
    copies = torch.bincount(functional.pad(line, (low, high), mode=mode).flatten().long())
    return int(copies.max())


def _symbol_norm(kernel: Tensor, sizes: list[int], strides: list[int], dilation: Two) -> float:
    waves = []
    for axis, size in enumerate(sizes):
        taps = torch.arange(kernel.shape[2 + axis], dtype=torch.float64) * dilation[axis]
        # The kernel is real: without strides half of the last axis repeats the other half.
        count = size // 2 + 1 if axis == 1 and strides == [1, 1] else size
        frequencies = torch.arange(count, dtype=torch.float64)
        phase = torch.outer(frequencies, taps).remainder(size) * (2.0 * math.pi / size)
        waves.append(torch.polar(torch.ones_like(phase), phase).to(kernel.device))
    coarse = sizes[0] // strides[0]
    outputs, inputs = kernel.shape[:2]

    def norm_of(row: int) -> float:  # one row of frequencies at a time keeps the memory small
        aliases = waves[0][row::coarse]
        partial = torch.einsum("oihw,ah->aoiw", kernel.to(aliases.dtype), aliases)
        symbols = torch.einsum("aoiw,gw->goai", partial, waves[1])
        folded = symbols.unflatten(0, (strides[1], -1)).permute(1, 2, 0, 3, 4)
        folded = folded.reshape(-1, outputs, strides[0] * strides[1] * inputs)
        return spectral_norm(folded)

    is_large = outputs * inputs >= _MANY and kernel.device.type == "cpu"
    largest = max(each(norm_of, range(coarse), workers=spare_threads() if is_large else 1))
    return largest / math.sqrt(strides[0] * strides[1])
