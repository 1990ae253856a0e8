"""Keep the matrices of a network orthogonal."""

import torch
from torch import Tensor, nn

from robustcl.core.errors import UnsupportedError

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
