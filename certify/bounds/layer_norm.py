"""Bound the operator norm, or the Lipschitz constant, of one layer from above."""

import math

import torch
from torch import Tensor, nn

from robustcl.certify.bounds.convolution_norm import convolution_norm
from robustcl.certify.bounds.dense_norm import dense_norm, round_up
from robustcl.certify.bounds.operations.activation import activation
from robustcl.certify.bounds.pooling_norm import pooling_norm
from robustcl.certify.norms import Norm
from robustcl.encoders.max_min import MaxMin
from robustcl.errors import UnsupportedError

# The largest slope of activations whose slope on an interval is not bounded, rounded up.
SLOPES: dict[type[nn.Module], float] = {
    nn.Identity: 1.0,
    nn.Flatten: 1.0,
    nn.Dropout: 1.0,  # in eval mode
    nn.Dropout2d: 1.0,
    nn.ReLU6: 1.0,
    nn.Hardtanh: 1.0,
    nn.Mish: 1.08850,
    nn.Hardswish: 1.5,
    nn.SELU: 1.75811,
}
PARAMETRIZED = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d),
    *(nn.PReLU, MaxMin),
)


def layer_norm(layer: nn.Module, input_shape: tuple[int, ...], *, norm: Norm) -> float:
    """Bound |layer(x) - layer(y)| / |x - y| over all x, y in eval mode.

    Args:
        layer: A layer of torch.nn, or MaxMin; subclasses are refused, as they may differ.
        input_shape: Shape of one input, without the batch.
        norm: 'l2' or 'linf', at the input and at the output.

    Returns:
        An upper bound in float64, never an estimate.

    Raises:
        UnsupportedError: When the layer has no known bound.
    """
    kind = type(layer)
    if kind is nn.Linear:
        return weight_norm(layer.weight, norm=norm)  # pyright: ignore[reportArgumentType]
    if isinstance(layer, nn.Conv2d) and kind is nn.Conv2d:
        return convolution_norm(layer, input_shape, norm=norm)
    known = activation(layer)
    if known is not None:
        if known.leap:
            raise UnsupportedError(f"{known.name} jumps, so that it has no Lipschitz constant")
        return known.steepest
    if kind in SLOPES:
        return SLOPES[kind]
    if kind not in PARAMETRIZED:
        raise UnsupportedError(f"{kind.__name__} has no guaranteed norm")
    if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
        return round_up(float(batch_norm_scale(layer).abs().max()))
    if isinstance(layer, nn.AvgPool2d | nn.AdaptiveAvgPool2d | nn.MaxPool2d):
        return pooling_norm(layer, input_shape, norm=norm)
    if isinstance(layer, MaxMin):
        return 1.0
    if isinstance(layer, nn.PReLU):
        return max(1.0, float(layer.weight.detach().abs().max()))
    raise UnsupportedError(f"{kind.__name__} has no guaranteed norm")


def weight_norm(weight: Tensor, *, norm: Norm) -> float:
    """Bound the operator norm of a matrix.

    Args:
        weight: (m, n).
        norm: 'l2' for the spectral norm, 'linf' for the largest l1 norm of a row.

    Returns:
        An upper bound, rounded up.
    """
    matrix = weight.detach().double()
    if norm == "linf":
        return round_up(float(matrix.abs().sum(dim=1).max()))
    return dense_norm(matrix)


def batch_norm_scale(layer: nn.BatchNorm2d | nn.BatchNorm1d) -> Tensor:
    """Return the factor per channel that a BatchNorm applies in eval mode.

    Args:
        layer: The layer.

    Returns:
        (C,) float64.

    Raises:
        UnsupportedError: When it keeps no running statistics, so that it depends on the batch.
    """
    if layer.running_var is None:
        raise UnsupportedError("BatchNorm without running statistics depends on the batch")
    scale = (layer.running_var.detach().double() + layer.eps).rsqrt()
    if not bool(torch.isfinite(scale).all()):
        raise UnsupportedError(
            f"BatchNorm with the variance {float(layer.running_var.min()):g} and eps {layer.eps:g} "
            "divides by the root of no positive number"
        )
    if layer.weight is None:
        return scale
    return scale * layer.weight.detach().double()


def combined_norm(norms: list[float], *, norm: Norm) -> float:
    """Bound the norm of outputs that are concatenated.

    Args:
        norms: Bounds of the parts.
        norm: 'l2' or 'linf'.

    Returns:
        sqrt(sum L^2) for L2, max L for Linf.
    """
    return round_up(math.hypot(*norms)) if norm == "l2" else max(norms)
