"""Keep layers 1-Lipschitz: orthogonalization, and layers of the library orthogonium."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from robustcl.core.errors import InputError, UnsupportedError
from robustcl.models.encoders.max_min import MaxMin
from robustcl.models.encoders.sorted_halves import to_halves, to_pairs
from robustcl.training.robust.method import RobustMethod

CLAIMED = 1.0  # the Lipschitz constant of an encoder trained so
NEUTRAL = (MaxMin, nn.Flatten, nn.Identity)


@dataclass(frozen=True, kw_only=True)
class Lipschitz(RobustMethod):
    """State how an encoder is kept 1-Lipschitz.

    Args:
        layers: 'patch': every matrix is projected; convolutions on separate patches only.
            'orthogonal' or 'aol': overlapping convolutions are trained in the parametrization of
            orthogonium besides, and end as plain layers.

    Raises:
        InputError: When an option is not usable.
    """

    layers: Literal["patch", "orthogonal", "aol"] = "patch"

    def __post_init__(self) -> None:
        if self.layers == "sll":
            raise InputError(
                "layers='sll' adds its input: the product of layer norms that certificates use is "
                "2 for it, though its true constant is 1; use 'orthogonal' or 'aol'"
            )
        if self.layers not in ("patch", "orthogonal", "aol"):
            raise InputError(f"layers {self.layers!r} is unknown; use patch, orthogonal or aol")

    @override
    def begin(self, backbone: nn.Module) -> None:
        begin_lipschitz(backbone, self)

    @override
    def after_step(self, backbone: nn.Module) -> None:
        after_lipschitz_step(backbone)

    @override
    def end(self, backbone: nn.Module) -> None:
        end_lipschitz(backbone)


def begin_lipschitz(backbone: nn.Module, method: Lipschitz) -> None:
    """Project the matrices, and put the layers into the form they are trained in.

    Args:
        backbone: A chain such as `lipschitz_convnet`; changed in place.
        method: The options.

    Raises:
        UnsupportedError: When a layer is not known to be 1-Lipschitz or made so.
    """
    if not isinstance(backbone, nn.Sequential):
        raise UnsupportedError(
            f"lipschitz trains a chain of layers, not {type(backbone).__name__}; use "
            "--arch lipschitz_convnet"
        )
    for layer in backbone:
        known = type(layer) in (nn.Conv2d, nn.Linear, *NEUTRAL)
        if not known:
            raise UnsupportedError(
                f"lipschitz cannot keep {type(layer).__name__} 1-Lipschitz; use convolutions, "
                "linear layers and MaxMin, as --arch lipschitz_convnet has them"
            )
        if method.layers == "patch" and type(layer) is nn.Conv2d and overlaps(layer):
            raise UnsupportedError(
                f"patches of {layer} overlap, so its matrix does not bound it; use "
                "lipschitz:layers=orthogonal or layers=aol"
            )
    to_halves(backbone)
    if method.layers != "patch":
        put_in(backbone, method.layers)
    make_orthogonal(patch_matrices(backbone))


def after_lipschitz_step(backbone: nn.Module) -> None:
    """Bring the matrices back after a step of the optimizer.

    Args:
        backbone: The chain after `begin_lipschitz`.
    """
    orthogonalize(patch_matrices(backbone))


def end_lipschitz(backbone: nn.Module) -> None:
    """Make the matrices orthogonal to float32's last digits, in plain layers.

    Args:
        backbone: The chain after training, also with averaged weights; changed in place.
    """
    assert isinstance(backbone, nn.Sequential)
    take_out(backbone)
    make_orthogonal(patch_matrices(backbone))
    to_pairs(backbone)


SHRINK = 1e-6  # rounding to float32 moves singular values by less


def patch_matrices(backbone: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """Return the layers that are one matrix: linear ones, and convolutions on separate patches.

    Args:
        backbone: A network.

    Returns:
        The layers. A convolution whose patches overlap is left out.
    """
    return [
        layer
        for layer in backbone.modules()
        if type(layer) is nn.Linear or (type(layer) is nn.Conv2d and not overlaps(layer))
    ]


def overlaps(layer: nn.Conv2d) -> bool:
    """Tell whether a pixel can lie in two patches of a convolution.

    Args:
        layer: The convolution.

    Returns:
        True when its matrix says less than all about its norm.

    Raises:
        UnsupportedError: When it has groups.
    """
    if layer.groups != 1:
        raise UnsupportedError(f"{layer} has groups; lipschitz trains convolutions without")
    reach = (d * (k - 1) + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True))
    apart = all(size <= step for size, step in zip(reach, layer.stride, strict=True))
    return not apart or layer.padding_mode not in ("zeros",)


@torch.no_grad()
def orthogonalize(layers: list[nn.Conv2d | nn.Linear]) -> None:
    """Take one step of Newton and Schulz: W (3 - W^T W) / 2 has singular values nearer to 1.

    Enough after a step of the optimizer, which has not moved them far. Weights change in place.

    Args:
        layers: From `patch_matrices`.

    Reference:
        Bjorck and Bowie, An Iterative Algorithm for Computing the Best Estimate of an Orthogonal
        Matrix, SIAM J. Numer. Anal. 1971.
    """
    for layer in layers:
        flat = layer.weight.flatten(1)
        is_tall = len(flat) > flat.shape[1]
        wide = flat.T if is_tall else flat
        wide = 1.5 * wide - 0.5 * (wide @ wide.T) @ wide
        layer.weight.copy_((wide.T if is_tall else wide).reshape(layer.weight.shape))


@torch.no_grad()
def make_orthogonal(layers: list[nn.Conv2d | nn.Linear]) -> None:
    """Replace each matrix by the nearest one whose singular values are all 1 - 1e-6.

    The millionth keeps the norm at or below 1 after rounding to float32.

    Args:
        layers: From `patch_matrices`; weights change in place.
    """
    for layer in layers:
        layer.weight.copy_(polar(layer.weight.flatten(1)).view_as(layer.weight))


def polar(matrix: Tensor) -> Tensor:
    """Return the nearest matrix whose singular values are all 1 - 1e-6.

    Args:
        matrix: (m, n).

    Returns:
        (m, n) float64.
    """
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    return (1.0 - SHRINK) * left @ right


@torch.no_grad()
def deviation(layers: list[nn.Conv2d | nn.Linear]) -> float:
    """Return how far singular values are from 1 at most: an observation, not a certificate.

    Args:
        layers: From `patch_matrices`.

    Returns:
        max |sigma - 1|.
    """
    values = [torch.linalg.svdvals(layer.weight.flatten(1).double()) for layer in layers]
    return max((float((value - 1.0).abs().max()) for value in values), default=0.0)


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
