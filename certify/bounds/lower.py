"""Lower one layer of torch.nn to an operation that bounds are computed on."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from robustcl.certify.norms import NORMS, Norm
from robustcl.certify.ops import scalar_function
from robustcl.certify.ops.affine import Affine, averaging, dense, reshaping, scaling
from robustcl.certify.ops.convolution import convolution
from robustcl.certify.ops.convolution_norm import Windows
from robustcl.certify.ops.elementwise import Elementwise
from robustcl.certify.ops.max_pool import MaxPool
from robustcl.certify.ops.operation import Operation, Shape
from robustcl.certify.ops.pairing import paired, pairing, unpairing
from robustcl.certify.ops.pooling_norm import pooling_norm, two
from robustcl.certify.ops.scalar_function import ScalarFunction, usable
from robustcl.errors import UnsupportedError

NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d)
ON_PIXELS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.BatchNorm2d)
AVERAGES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)


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


def lower_layer(layer: nn.Module, input_shape: Shape, output_shape: Shape) -> Operation:
    """Describe a layer in eval mode.

    A layer without a guaranteed norm is refused; one with a global norm alone becomes an
    activation without slopes.

    Args:
        layer: A layer of torch.nn in float64; subclasses are refused.
        input_shape: Shape of one input.
        output_shape: Shape of one output.

    Returns:
        The operation.

    Raises:
        UnsupportedError: When the layer is for images and its input is none.
    """
    kind = type(layer)
    if kind in ON_PIXELS and len(input_shape) != 3:
        raise UnsupportedError(
            f"{kind.__name__} on values of shape {input_shape} per image, not (C, H, W)"
        )
    _check_shapes(layer)
    if isinstance(layer, nn.Linear) and kind is nn.Linear:
        return dense(layer.weight, layer.bias)
    if isinstance(layer, nn.Conv2d) and kind is nn.Conv2d:
        return convolution(layer.weight, layer.bias, windows_of(layer), input_shape)
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and kind in NORMALIZATIONS:
        factor, offset, size = batch_norm(layer)
        sides = (1, -1, *[1] * (len(input_shape) - 1))
        return scaling(factor.view(sides), offset.view(sides), size.view(sides))
    if isinstance(layer, nn.MaxPool2d) and kind is nn.MaxPool2d:
        kernel, stride = two(layer.kernel_size), two(layer.stride or layer.kernel_size)
        padding, dilation = two(layer.padding), two(layer.dilation)
        return MaxPool(kernel, stride, padding, dilation, layer.ceil_mode, input_shape)
    if isinstance(layer, nn.AvgPool2d | nn.AdaptiveAvgPool2d) and kind in AVERAGES:
        norms: dict[Norm, float] = {p: pooling_norm(layer, input_shape, norm=p) for p in NORMS}
        return averaging(layer, input_shape, norms, input_shape[-1] * input_shape[-2])
    if kind in (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout2d):
        return reshaping(input_shape, output_shape)
    known = scalar_function_of(layer)
    if known is None:
        raise UnsupportedError(f"{kind.__name__} has no guaranteed norm")
    return Elementwise(known)


PLAIN: dict[type[nn.Module], ScalarFunction] = {
    nn.ReLU: scalar_function.RELU,
    nn.SiLU: scalar_function.SILU,
    nn.Tanh: scalar_function.TANH,
    nn.Sigmoid: scalar_function.SIGMOID,
}


def scalar_function_of(layer: nn.Module) -> ScalarFunction | None:
    """Describe an activation of torch.nn.

    Args:
        layer: A layer.

    Returns:
        Its description; None where bounds on an interval are not known.

    Raises:
        UnsupportedError: When it jumps.
    """
    kind = type(layer)
    if isinstance(layer, nn.LeakyReLU) and kind is nn.LeakyReLU:
        return scalar_function.kinked(
            "LeakyReLU", usable("LeakyReLU", "negative_slope", layer.negative_slope)
        )
    if isinstance(layer, nn.PReLU) and kind is nn.PReLU and layer.weight.numel() == 1:
        return scalar_function.kinked("PReLU", usable("PReLU", "weight", layer.weight.detach()))
    if isinstance(layer, nn.ELU) and kind is nn.ELU:
        return scalar_function.elu(usable("ELU", "alpha", layer.alpha))
    if isinstance(layer, nn.GELU) and kind is nn.GELU:
        tanh = layer.approximate == "tanh"
        return scalar_function.TANH_GELU if tanh else scalar_function.GELU
    if isinstance(layer, nn.Softplus) and kind is nn.Softplus:
        beta = usable("Softplus", "beta", layer.beta)
        threshold = usable("Softplus", "threshold", layer.threshold)
        return scalar_function.softplus(beta, threshold)
    if kind in PLAIN:
        return PLAIN[kind]
    return _of_known_steepness(layer)


def _of_known_steepness(layer: nn.Module) -> ScalarFunction | None:
    # A function whose slope is bounded everywhere, and on no interval.
    kind = type(layer)
    if isinstance(layer, nn.PReLU) and kind is nn.PReLU:
        steepest = max(1.0, float(layer.weight.detach().abs().max()))
    elif kind in SLOPES:
        steepest = SLOPES[kind]
    else:
        return None
    return ScalarFunction(kind.__name__, steepest, _as_function(layer))


def _check_shapes(layer: nn.Module) -> None:
    # Weights that were replaced by others of another shape.
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        return
    weight, bias = layer.weight, layer.bias
    if isinstance(layer, nn.Conv2d) and tuple(weight.shape[2:]) != tuple(layer.kernel_size):
        raise UnsupportedError(
            f"Conv2d of kernel_size {layer.kernel_size} with a weight of shape "
            f"{tuple(weight.shape)}; make a layer of that size"
        )
    if weight.ndim != (4 if isinstance(layer, nn.Conv2d) else 2) or (
        bias is not None and tuple(bias.shape) != (len(weight),)
    ):
        shapes = tuple(weight.shape), None if bias is None else tuple(bias.shape)
        raise UnsupportedError(f"{type(layer).__name__} with weight and bias of shapes {shapes}")


def windows_of(layer: nn.Conv2d) -> Windows:
    """Read how the kernel of a convolution moves.

    Args:
        layer: The convolution.

    Returns:
        The windows.
    """
    stride, dilation = two(layer.stride), two(layer.dilation)
    return Windows(stride, _paddings(layer), dilation, layer.groups, layer.padding_mode)


def _paddings(layer: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    if layer.padding_mode != "zeros":  # what the layer hands to `pad`, last axis first
        left, right, top, bottom = layer._reversed_padding_repeated_twice
        return (int(top), int(bottom)), (int(left), int(right))
    if layer.padding == "valid":
        return (0, 0), (0, 0)
    if layer.padding == "same":
        pairs = zip(layer.dilation, layer.kernel_size, strict=True)
        totals = [dilation * (size - 1) for dilation, size in pairs]
        before, after = ([total // 2 for total in totals], [-(-total // 2) for total in totals])
        return (before[0], after[0]), (before[1], after[1])
    top, left = cast(tuple[int, int], layer.padding)
    return (int(top), int(top)), (int(left), int(left))


def batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    """Return factor and offset per channel that a BatchNorm applies in eval mode, and sizes.

    Args:
        layer: The layer.

    Returns:
        (C,) float64 each; the sizes are those of the terms that the offset is the sum of.

    Raises:
        UnsupportedError: When it keeps no running statistics.
    """
    factor = batch_norm_scale(layer)
    if layer.running_mean is None:
        raise UnsupportedError("BatchNorm without running statistics depends on the batch")
    offset = -layer.running_mean.detach().double() * factor
    if layer.bias is None:
        return factor, offset, offset.abs()
    bias = layer.bias.detach().double()
    return factor, offset + bias, offset.abs() + bias.abs()


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


def folded(
    layer: nn.Conv2d | nn.Linear,
    follower: nn.BatchNorm1d | nn.BatchNorm2d | None,
    input_shape: Shape,
    *,
    pairs: bool = False,
) -> Affine:
    """Describe a convolution or linear layer with the BatchNorm that follows it.

    Args:
        layer: The first layer.
        follower: The BatchNorm, or None.
        input_shape: Shape of one input of the first.
        pairs: Whether `pairing` of the outputs is folded in too.

    Returns:
        One affine operation.
    """
    _check_shapes(layer)
    weight, bias = layer.weight.detach(), layer.bias
    size = None if bias is None else bias.abs()
    if follower is not None:
        factor, offset, size = batch_norm(follower)
        weight = weight * factor.view(-1, *[1] * (weight.ndim - 1))
        if bias is not None:
            size = size + (factor * bias).abs()
        bias = offset if bias is None else offset + factor * bias
    if pairs:
        weight, bias = paired(weight), None if bias is None else paired(bias)
        size = None if size is None else size.view(-1, 2).mean(dim=1).repeat_interleave(2)
    if isinstance(layer, nn.Conv2d):
        return convolution(weight, bias, windows_of(layer), input_shape, size)
    return dense(weight, bias, size)


def max_min(shape: Shape, before: tuple[Affine, Affine] | None) -> list[Operation]:
    """Describe MaxMin as a rotation of every pair, |z| on the differences, and its inverse.

    Args:
        shape: (C, ...) of one input.
        before: The layer before, plain and with the rotation folded in; the intervals of the
            differences are then as tight as those of single units. None where it cannot be folded.

    Returns:
        The operations, one after the other.
    """
    if before is None:
        return [pairing(shape), _second(shape), unpairing(shape)]
    plain, rotated = before
    back = unpairing(shape, inner=rotated.norms["linf"], outer=plain.norms["linf"])
    return [rotated, _second(shape), back]


def _second(shape: Shape) -> Operation:
    return Elementwise(scalar_function.second_of_pairs(shape))


def _as_function(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    def value(z: Tensor) -> Tensor:
        with torch.no_grad():
            return layer(z)

    return value
