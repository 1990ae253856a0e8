"""Train overlapping convolutions in the parametrization of orthogonium, and take them out again."""

from typing import Any

import torch
from torch import Tensor, nn

from robustcl.core.errors import InputError
from robustcl.robust.orthogonalize import SHRINK, overlaps

GRID = 32  # frequencies per axis at which a kernel's norm is looked at


def put_in(backbone: nn.Sequential, kind: str) -> None:
    """Replace convolutions whose patches overlap by layers of orthogonium, with fresh weights.

    Args:
        backbone: A chain; changed in place.
        kind: 'orthogonal' (block convolutions that are orthogonal at every frequency) or 'aol'
            (almost orthogonal: a rescaled kernel of norm 1 at most).

    Raises:
        InputError: When orthogonium is not installed, or a convolution is not square.

    Reference:
        Li et al., Preventing Gradient Attenuation in Lipschitz Constrained Convolutional Networks,
        NeurIPS 2019 (block convolutions); Prach and Lampert, Almost-Orthogonal Layers for
        Efficient General-Purpose Lipschitz Networks, ECCV 2022.
    """
    try:
        from orthogonium.layers.conv.AOC import AdaptiveOrthoConv2d  # pyright: ignore[reportMissingImports]
        from orthogonium.layers.conv.AOL.aol import AOLConv2D  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            f"layers={kind} is trained with orthogonium; pip install 'robustcl[lipschitz]', or use "
            "layers=patch"
        ) from error
    build: Any = {"orthogonal": AdaptiveOrthoConv2d, "aol": AOLConv2D}[kind]
    for place, layer in enumerate(backbone):
        if type(layer) is nn.Conv2d and overlaps(layer):
            (size, other), (padding, _) = layer.kernel_size, layer.padding
            if size != other:
                raise InputError(f"{layer} has no square kernel; orthogonium wants one")
            twin = build(
                layer.in_channels,
                layer.out_channels,
                size,
                stride=layer.stride[0],
                padding=padding,
                padding_mode=layer.padding_mode,
                bias=layer.bias is not None,
            )
            backbone[place] = twin.to(layer.weight.device)


@torch.no_grad()
def take_out(backbone: nn.Sequential) -> None:
    """Replace layers of orthogonium by plain convolutions with the weights they stand for.

    A kernel whose norm came out above 1, as that of an iteration which has not converged, is
    divided by it.

    Args:
        backbone: The chain after `put_in`; changed in place.
    """
    for place, layer in enumerate(backbone):
        if isinstance(layer, nn.Conv2d) and type(layer) is not nn.Conv2d:
            plain = nn.Conv2d(
                layer.in_channels,
                layer.out_channels,
                (layer.kernel_size[0], layer.kernel_size[1]),
                stride=(layer.stride[0], layer.stride[1]),
                padding=layer.padding,  # pyright: ignore[reportArgumentType]
                padding_mode=layer.padding_mode,
                bias=layer.bias is not None,
            )
            layer.eval()
            weight = layer.weight.detach().double()
            weight /= max(largest_gain(weight) / (1.0 - SHRINK), 1.0)
            plain.weight.copy_(weight)
            if layer.bias is not None and plain.bias is not None:
                plain.bias.copy_(layer.bias)
            backbone[place] = plain.to(layer.weight.device)


def largest_gain(kernel: Tensor) -> float:
    """Return the largest singular value of a kernel's symbol on a grid of frequencies.

    Args:
        kernel: (out, in, k, k).

    Returns:
        A number that the norm on images of up to that grid's size cannot exceed by much; the
        guaranteed bound is `certify.bounds`'s.
    """
    symbol = torch.fft.fft2(kernel.double(), s=(GRID, GRID))
    return float(torch.linalg.matrix_norm(symbol.permute(2, 3, 0, 1), ord=2).max())
