"""Bound the operator norm of a convolution from above."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from robustcl.certify.bounds.dense_norm import dense_norm, round_up
from robustcl.certify.norms import Norm
from robustcl.certify.one_thread import each, spare_threads
from robustcl.errors import UnsupportedError

MANY = 256  # entries of a symbol, from which it pays to treat several rows at a time


def convolution_norm(
    layer: nn.Conv2d, input_shape: tuple[int, ...], *, norm: Norm, weight: Tensor | None = None
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
        layer: The convolution.
        input_shape: (C, H, W) of its input.
        norm: 'l2' (L2 to L2) or 'linf' (Linf to Linf).
        weight: Weight to be used for the layer's own, such as one with a BatchNorm folded in.

    Returns:
        An upper bound in float64, rounded up.

    Raises:
        UnsupportedError: When the padding mode is unknown.

    Reference:
        Sedghi et al., The Singular Values of Convolutional Layers, ICLR 2019, for the circular
        case; Delattre et al., ICML 2023, for zero padding.
    """
    kernel = (layer.weight if weight is None else weight).detach().double()
    if norm == "linf":
        return round_up(float(kernel.abs().flatten(1).sum(dim=1).max()))
    sizes, strides, factor = [], [], 1.0
    for axis, (low, high) in enumerate(_paddings(layer)):
        n, reach = input_shape[1 + axis], layer.dilation[axis] * (kernel.shape[2 + axis] - 1)
        size, stride = n + low + high, layer.stride[axis]
        if layer.padding_mode == "zeros":
            size = n + min(max(low, high), reach)
        elif layer.padding_mode == "circular" and low + high == reach:
            size, stride = n, stride if n % stride == 0 else 1
        elif layer.padding_mode in ("reflect", "replicate", "circular"):
            factor *= _padding_norm(n, low, high, layer.padding_mode)
        else:
            raise UnsupportedError(f"padding_mode {layer.padding_mode!r} has no known norm")
        sizes.append(-(-size // stride) * stride)
        strides.append(stride)
    groups = kernel.chunk(layer.groups)
    largest = max(_symbol_norm(part, sizes, strides, layer.dilation) for part in groups)
    return round_up(factor * largest)


def padding_copies(layer: nn.Conv2d, input_shape: tuple[int, ...]) -> int:
    """Count how often padding shows one pixel to a convolution.

    Args:
        layer: The convolution.
        input_shape: (C, H, W) of its input.

    Returns:
        The most places of the padded image that hold one pixel: 1 where zeros are padded.
    """
    if layer.padding_mode == "zeros":
        return 1
    counts = [
        _most_copies(input_shape[1 + axis], low, high, layer.padding_mode)
        for axis, (low, high) in enumerate(_paddings(layer))
    ]
    return math.prod(counts)


def _paddings(layer: nn.Conv2d) -> list[tuple[int, int]]:
    if layer.padding_mode != "zeros":  # what the layer hands to `pad`, last axis first
        left, right, top, bottom = layer._reversed_padding_repeated_twice
        return [(int(top), int(bottom)), (int(left), int(right))]
    if layer.padding == "valid":
        return [(0, 0), (0, 0)]
    if layer.padding == "same":
        pairs = zip(layer.dilation, layer.kernel_size, strict=True)
        totals = [dilation * (size - 1) for dilation, size in pairs]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(side), int(side)) for side in cast(tuple[int, int], layer.padding)]


def _padding_norm(size: int, low: int, high: int, mode: str) -> float:
    # Every padded pixel copies one pixel, so P^T P is diagonal and counts the copies.
    return math.sqrt(_most_copies(size, low, high, mode))


def _most_copies(size: int, low: int, high: int, mode: str) -> int:
    line = torch.arange(size, dtype=torch.float64)[None, None]
    copies = torch.bincount(nn.functional.pad(line, (low, high), mode=mode).flatten().long())
    return int(copies.max())


def _symbol_norm(
    kernel: Tensor, sizes: list[int], strides: list[int], dilation: tuple[int, ...]
) -> float:
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
        return dense_norm(folded)

    is_large = outputs * inputs >= MANY and kernel.device.type == "cpu"
    largest = max(each(norm_of, range(coarse), workers=spare_threads() if is_large else 1))
    return largest / math.sqrt(strides[0] * strides[1])
