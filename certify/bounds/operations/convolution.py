"""Describe a convolution by what bounds need, on whole images and on patches."""

import math
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

from robustcl.certify.bounds.convolution_norm import convolution_norm, padding_copies
from robustcl.certify.bounds.operations.affine import Affine, Linear, Sliding, holder, raised_rows
from robustcl.certify.bounds.rounding import row_lengths
from robustcl.certify.norms import NORMS, Norm

MATRIX = 2**18  # entries of a matrix that serves for a convolution of patches


def convolution(
    layer: nn.Conv2d,
    weight: Tensor,
    bias: Tensor | None,
    input_shape: tuple[int, ...],
    bias_size: Tensor | None = None,
) -> Affine:
    """Describe a convolution on images of a given size.

    Args:
        layer: Its stride, padding, dilation and groups.
        weight: (out, in/groups, h, w) float64, for instance with a BatchNorm folded in.
        bias: (out,) float64, or None.
        input_shape: (C, H, W) of the input.
        bias_size: (out,) sizes of the terms that the bias is the sum of; None for its own.

    Returns:
        The operation on (B, C, H, W).
    """
    size = weight.abs()
    grouped = size.unflatten(0, (layer.groups, -1))
    columns = grouped.sum(dim=(1, 3, 4)).flatten()
    # Padding by copies lets a pixel enter a row, and rows, more than once.
    copies = padding_copies(layer, input_shape)
    rows = _row_norms(layer, weight, input_shape, copies)
    norms: dict[Norm, float] = {
        p: convolution_norm(layer, input_shape, norm=p, weight=weight) for p in NORMS
    }
    magnitude = holder(size.flatten(1).sum(dim=1), columns * copies)
    terms = max(weight[0].numel(), grouped.shape[1] * math.prod(layer.kernel_size) * copies)

    def make(dtype: torch.dtype) -> Affine:
        own = weight.to(dtype)
        whole = Affine(
            apply=_convolve(layer, own),
            absolute=_convolve(layer, own.abs()),
            pull=_convolve_transposed(layer, own, input_shape),
            pull_absolute=_convolve_transposed(layer, own.abs(), input_shape),
            offset=None if bias is None else bias[None, :, None, None].to(dtype),
            norms=norms,
            rows=raised_rows(rows, dtype),
            magnitude=magnitude,
            terms=terms,
            dtype=dtype,
            remake=make,
            terms_of_offset=None if bias_size is None else bias_size[None, :, None, None].to(dtype),
        )
        return replace(whole, sliding=_sliding(layer, own, whole))

    return make(torch.float64)


def _row_norms(
    layer: nn.Conv2d, weight: Tensor, input_shape: tuple[int, ...], copies: int
) -> Tensor:
    # At a border padded by zeros a row has fewer entries than the kernel.
    if copies > 1:
        return row_lengths(weight.flatten(1)).view(1, -1, 1, 1) * copies**0.5
    ones = torch.ones(1, *input_shape, dtype=weight.dtype, device=weight.device)
    scale = weight.flatten(1).abs().amax(dim=1).clamp_min(1e-300).view(-1, 1, 1, 1)
    squares = _convolve(layer, (weight / scale) ** 2)(ones)
    return squares.clamp_min(0.0).sqrt() * scale.view(1, -1, 1, 1)  # `raised_rows` follows


def _convolve(layer: nn.Conv2d, weight: Tensor) -> Linear:
    if layer.padding_mode == "zeros":
        return lambda x: functional.conv2d(
            x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups
        )
    sides = cast(list[int], layer._reversed_padding_repeated_twice)
    return lambda x: functional.conv2d(
        functional.pad(x, sides, mode=layer.padding_mode),
        weight,
        None,
        layer.stride,
        0,
        layer.dilation,
        layer.groups,
    )


def _convolve_transposed(layer: nn.Conv2d, weight: Tensor, shape: tuple[int, ...]) -> Linear:
    if layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        options: dict[str, Any] = {
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
            "groups": layer.groups,
        }
        return lambda g: conv2d_input([len(g), *shape], weight, g, **options)
    forward = _convolve(layer, weight)
    return lambda g: torch.func.vjp(forward, g.new_zeros(len(g), *shape))[1](g)[0]  # pyright: ignore[reportCallIssue]


def _as_matrix(
    whole: Affine, weight: Tensor, shape: tuple[int, int, int], options: dict[str, Any]
) -> Affine:
    # A convolution of small patches is many times as fast as a product with its matrix, whose
    # zeros add no rounding.
    one = torch.eye(math.prod(shape), dtype=weight.dtype, device=weight.device)
    taps = functional.conv_transpose2d(one.view(-1, *shape), weight, **options)
    patch, matrix = taps.shape[1:], taps.flatten(1)
    size = matrix.abs()
    return replace(
        whole,
        apply=lambda x: (x.flatten(1) @ matrix.T).view(len(x), *shape),
        absolute=lambda x: (x.flatten(1) @ size.T).view(len(x), *shape),
        pull=lambda g: (g.flatten(1) @ matrix).view(len(g), *patch),
        pull_absolute=lambda g: (g.flatten(1) @ size).view(len(g), *patch),
    )


def _sliding(layer: nn.Conv2d, weight: Tensor, whole: Affine) -> Sliding | None:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return None
    (gap, wide), (tall, broad) = layer.dilation, layer.kernel_size
    options: dict[str, Any] = {
        "stride": layer.stride,
        "dilation": layer.dilation,
        "groups": layer.groups,
    }
    size = weight.abs()
    alike = replace(whole, rows=whole.rows.amax(dim=(2, 3), keepdim=True))

    def bare(height: int, width: int) -> Affine:
        shape = (len(weight), height, width)
        patch = functional.conv_transpose2d(weight.new_zeros(1, *shape), weight, **options)[0]
        if math.prod(shape) * patch.numel() <= MATRIX:
            return _as_matrix(alike, weight, shape, options)
        return replace(
            alike,
            apply=lambda x: functional.conv2d(x, weight, **options),
            absolute=lambda x: functional.conv2d(x, size, **options),
            pull=lambda g: functional.conv_transpose2d(g, weight, **options),
            pull_absolute=lambda g: functional.conv_transpose2d(g, size, **options),
        )

    kernel = (gap * (tall - 1) + 1, wide * (broad - 1) + 1)
    (down, right), (top, first) = layer.stride, layer.padding
    return Sliding(kernel, (down, right), (top, first), bare)
