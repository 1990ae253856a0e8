"""Lower one layer of torch.nn to an operation that bounds are computed on."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustcl.certify.bounds.layer_norm import batch_norm_scale, layer_norm
from robustcl.certify.bounds.operations.activation import Activation, activation, second_of_pairs
from robustcl.certify.bounds.operations.affine import (
    Affine,
    averaging,
    dense,
    reshaping,
    scaling,
)
from robustcl.certify.bounds.operations.convolution import convolution
from robustcl.certify.bounds.operations.joining import (
    Concatenation,
    Constant,
    Image,
    MaxPool,
    Sum,
    max_pool,
)
from robustcl.certify.bounds.operations.pairing import paired, pairing, unpairing
from robustcl.certify.bounds.pooling_norm import pooling_norm
from robustcl.certify.norms import NORMS, Norm
from robustcl.errors import UnsupportedError

Operation = Affine | Activation | Sum | Concatenation | MaxPool | Image | Constant
Shape = tuple[int, ...]
NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d)
ON_PIXELS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.BatchNorm2d)
AVERAGES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)


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
        return convolution(layer, layer.weight, layer.bias, input_shape)
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and kind in NORMALIZATIONS:
        factor, offset, size = batch_norm(layer)
        sides = (1, -1, *[1] * (len(input_shape) - 1))
        return scaling(factor.view(sides), offset.view(sides), size.view(sides))
    if isinstance(layer, nn.MaxPool2d) and kind is nn.MaxPool2d:
        pooling_norm(layer, input_shape, norm="l2")
        return max_pool(layer, input_shape)
    if isinstance(layer, nn.AvgPool2d | nn.AdaptiveAvgPool2d) and kind in AVERAGES:
        norms: dict[Norm, float] = {p: pooling_norm(layer, input_shape, norm=p) for p in NORMS}
        return averaging(layer, input_shape, norms, input_shape[-1] * input_shape[-2])
    if kind in (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout2d):
        return reshaping(input_shape, output_shape)
    known = activation(layer)
    if known is not None:
        return known
    return Activation(kind.__name__, layer_norm(layer, input_shape, norm="l2"), _as_function(layer))


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
        return convolution(layer, weight, bias, input_shape, size)
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
        return [pairing(shape), second_of_pairs(shape), unpairing(shape)]
    plain, rotated = before
    back = unpairing(shape, inner=rotated.norms["linf"], outer=plain.norms["linf"])
    return [rotated, second_of_pairs(shape), back]


def _as_function(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    def value(z: Tensor) -> Tensor:
        with torch.no_grad():
            return layer(z)

    return value
