"""Describe a convolution by what bounds need, on whole images and on patches."""

import math
from dataclasses import replace
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input

from robustcl.certify.ops.affine import Affine, LinearMap, Sliding, holder, raised_rows
from robustcl.certify.ops.convolution_norm import Two, Windows, convolution_norm, padding_copies
from robustcl.certify.rounding import row_lengths
from robustcl.core.choices import CERTIFIED_NORMS, CertifiedNorm

MATRIX = 2**18  # entries of a matrix that serves for a convolution of patches


class _Options(TypedDict):
    stride: Two
    dilation: Two
    groups: int


def convolution(
    weight: Tensor,
    bias: Tensor | None,
    windows: Windows,
    input_shape: tuple[int, ...],
    bias_size: Tensor | None = None,
) -> Affine:
    """Describe a convolution on images of a given size.

    Args:
        weight: (out, in/groups, h, w) float64, for instance with a BatchNorm folded in.
        bias: (out,) float64, or None.
        windows: How the kernel moves.
        input_shape: (C, H, W) of the input.
        bias_size: (out,) sizes of the terms that the bias is the sum of; None for its own.

    Returns:
        The operation on (B, C, H, W).
    """
    weight = weight.contiguous()  # whatever the model's own order in memory
    size = weight.abs()
    grouped = size.unflatten(0, (windows.groups, -1))
    columns = grouped.sum(dim=(1, 3, 4)).flatten()
    # Padding by copies lets a pixel enter a row, and rows, more than once.
    copies = padding_copies(windows, input_shape)
    rows = _row_norms(windows, weight, input_shape, copies)
    norms: dict[CertifiedNorm, float] = {
        p: convolution_norm(weight, windows, input_shape, norm=p) for p in CERTIFIED_NORMS
    }
    magnitude = holder(size.flatten(1).sum(dim=1), columns * copies)
    terms = max(weight[0].numel(), grouped.shape[1] * math.prod(weight.shape[2:]) * copies)

    def make(dtype: torch.dtype) -> Affine:
        own = weight.to(dtype)
        whole = Affine(
            apply=_convolve(windows, own),
            absolute=_convolve(windows, own.abs()),
            transpose=_convolve_transposed(windows, own, input_shape),
            absolute_transpose=_convolve_transposed(windows, own.abs(), input_shape),
            offset=None if bias is None else bias[None, :, None, None].to(dtype),
            norms=norms,
            rows=raised_rows(rows, dtype),
            magnitude=magnitude,
            terms=terms,
            dtype=dtype,
            remake=make,
            terms_of_offset=None if bias_size is None else bias_size[None, :, None, None].to(dtype),
        )
        return replace(whole, sliding=_sliding(windows, own, whole))

    return make(torch.float64)


def _row_norms(
    windows: Windows, weight: Tensor, input_shape: tuple[int, ...], copies: int
) -> Tensor:
    # At a border padded by zeros a row has fewer entries than the kernel.
    if copies > 1:
        return row_lengths(weight.flatten(1)).view(1, -1, 1, 1) * copies**0.5
    ones = torch.ones(1, *input_shape, dtype=weight.dtype, device=weight.device)
    scale = weight.flatten(1).abs().amax(dim=1).clamp_min(1e-300).view(-1, 1, 1, 1)
    squares = _convolve(windows, (weight / scale) ** 2)(ones)
    return squares.clamp_min(0.0).sqrt() * scale.view(1, -1, 1, 1)  # `raised_rows` follows


def _options(windows: Windows) -> _Options:
    return {"stride": windows.stride, "dilation": windows.dilation, "groups": windows.groups}


def _convolve(windows: Windows, weight: Tensor) -> LinearMap:
    options, same = _options(windows), windows.same_zeros
    if same is not None:
        return lambda x: functional.conv2d(x, weight, padding=same, **options)
    return lambda x: functional.conv2d(windows.padded(x), weight, **options)


def _convolve_transposed(windows: Windows, weight: Tensor, shape: tuple[int, ...]) -> LinearMap:
    options, same = _options(windows), windows.same_zeros
    if same is not None:
        return lambda g: conv2d_input([len(g), *shape], weight, g, padding=same, **options)  # pyright: ignore[reportArgumentType]
    forward = _convolve(windows, weight)
    return lambda g: torch.func.vjp(forward, g.new_zeros(len(g), *shape))[1](g)[0]  # pyright: ignore[reportCallIssue]


def _as_matrix(
    whole: Affine, weight: Tensor, shape: tuple[int, int, int], options: _Options
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
        transpose=lambda g: (g.flatten(1) @ matrix).view(len(g), *patch),
        absolute_transpose=lambda g: (g.flatten(1) @ size).view(len(g), *patch),
    )


def _sliding(windows: Windows, weight: Tensor, whole: Affine) -> Sliding | None:
    padding = windows.same_zeros
    if padding is None:
        return None
    options = _options(windows)
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
            transpose=lambda g: functional.conv_transpose2d(g, weight, **options),
            absolute_transpose=lambda g: functional.conv_transpose2d(g, size, **options),
        )

    taps = zip(windows.dilation, weight.shape[2:], strict=True)
    kernel = [dilation * (count - 1) + 1 for dilation, count in taps]
    return Sliding((kernel[0], kernel[1]), windows.stride, padding, bare)
