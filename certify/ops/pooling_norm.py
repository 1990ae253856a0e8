"""Bound the operator norm of pooling from above."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustcl.certify.norms import Norm
from robustcl.certify.ops.spectral_norm import spectral_norm
from robustcl.certify.rounding import round_up
from robustcl.errors import UnsupportedError

Pooling = nn.AvgPool2d | nn.AdaptiveAvgPool2d | nn.MaxPool2d


def pooling_norm(layer: Pooling, input_shape: tuple[int, ...], *, norm: Norm) -> float:
    """Bound the norm of a pooling layer on images of a given size.

    Average pooling is the same on every channel and separable, so its L2 norm is the product of
    the norms of its two one-dimensional operators, which are formed and measured: overlaps,
    padding, ceil_mode and adaptive cells need no case of their own. Max-pooling has the L2 bound
    sqrt(C), C = most windows that cover a pixel. For Linf, 1; with a divisor_override d, k^2/d.

    Args:
        layer: The pooling layer.
        input_shape: (C, H, W) of its input.
        norm: 'l2' or 'linf'.

    Returns:
        An upper bound in float64, rounded up.

    Raises:
        UnsupportedError: When the layer is not one of these.
    """
    if isinstance(layer, nn.MaxPool2d):
        return _max_pool(layer, norm)
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        sizes = _pair(layer.output_size)
        return _separable(
            [_adaptive(sizes[axis]) for axis in range(2)], input_shape, norm, scale=1.0
        )
    if not isinstance(layer, nn.AvgPool2d):
        raise UnsupportedError(f"{type(layer).__name__} is not a pooling layer with a known norm")
    kernel, padding = two(layer.kernel_size), two(layer.padding)
    stride = two(layer.stride or layer.kernel_size)
    scale, counts_padding = 1.0, layer.count_include_pad
    if layer.divisor_override is not None:
        if layer.divisor_override < 1:
            raise UnsupportedError(f"AvgPool2d with the divisor {layer.divisor_override}")
        # Windows cut by ceil_mode keep the override; counting the padding bounds them by k^2.
        scale = kernel[0] * kernel[1] / layer.divisor_override
        if layer.ceil_mode:
            raise UnsupportedError(
                "AvgPool2d with divisor_override and ceil_mode has no known norm"
            )
        counts_padding = True

    def along(axis: int) -> Callable[[Tensor], Tensor]:
        return lambda line: functional.avg_pool1d(
            line, kernel[axis], stride[axis], padding[axis], layer.ceil_mode, counts_padding
        )

    return _separable([along(0), along(1)], input_shape, norm, scale=scale)


def mean_norms(sizes: list[int]) -> tuple[dict[Norm, float], int]:
    """Bound the norms of a mean over some axes.

    Args:
        sizes: Lengths of these axes.

    Returns:
        Norms by name, and how many numbers one mean is taken of.
    """
    count = math.prod(sizes)
    return {"l2": round_up(1.0 / math.sqrt(count)), "linf": round_up(1.0)}, count


def _separable(
    operators: list[Callable[[Tensor], Tensor]],
    input_shape: tuple[int, ...],
    norm: Norm,
    *,
    scale: float,
) -> float:
    for axis, operator in enumerate(operators):
        columns = operator(torch.eye(input_shape[1 + axis], dtype=torch.float64)[:, None])[:, 0]
        scale *= spectral_norm(columns) if norm == "l2" else float(columns.abs().sum(dim=0).max())
    return round_up(scale)


def _adaptive(size: int | None) -> Callable[[Tensor], Tensor]:
    if size is None:
        return lambda line: line
    return lambda line: functional.adaptive_avg_pool1d(line, size)


def _max_pool(layer: nn.MaxPool2d, norm: Norm) -> float:
    if norm == "linf":
        return 1.0
    kernel, dilation = two(layer.kernel_size), two(layer.dilation)
    stride = two(layer.stride or layer.kernel_size)
    covers = 1
    for axis in range(2):
        # A pixel lies in the windows whose taps k d are congruent to it modulo the stride.
        taps = [tap * dilation[axis] % stride[axis] for tap in range(kernel[axis])]
        covers *= max(taps.count(residue) for residue in taps)
    return round_up(math.sqrt(covers))


def two(value: int | Sequence[int] | None) -> tuple[int, int]:
    """Read a size along both axes, as torch does: one number, or a sequence of one or two.

    Args:
        value: The size.

    Returns:
        Height and width.

    Raises:
        UnsupportedError: When it is none of this.
    """
    found = tuple(value) if isinstance(value, Sequence) else (value, value)
    found = found * 2 if len(found) == 1 else found
    if len(found) != 2 or not all(isinstance(side, int) for side in found):
        raise UnsupportedError(f"pooling with the size {value!r}")
    return found[0], found[1]  # pyright: ignore[reportReturnType]


def _pair(value: int | Sequence[int | None] | None) -> tuple[int | None, int | None]:
    # The output of an adaptive pooling, where None keeps a side.
    if isinstance(value, Sequence):
        return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])
    return value, value
