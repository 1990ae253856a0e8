"""Recognise linear and convolutional layers, and fold into them what follows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustcl.certify.ops.affine import Affine, dense, scaling
from robustcl.certify.ops.convolution import convolution
from robustcl.certify.ops.convolution_norm import Two, Windows
from robustcl.certify.ops.index_map import Padded
from robustcl.certify.ops.operation import Shape
from robustcl.certify.ops.pairing import paired
from robustcl.certify.ops.registry import Call, Value, recognises


@dataclass(frozen=True, eq=False)
class Weights:
    """Hold a linear layer or a convolution while others may still be folded into it.

    Args:
        weight: (out, in) or (out, in / groups, h, w) float64.
        bias: (out,), or None.
        bias_size: (out,) sizes of the terms that the bias is the sum of; None for its own.
        windows: How the kernel moves; None for a linear layer.
        input_shape: Without the batch.
    """

    weight: Tensor
    bias: Tensor | None
    bias_size: Tensor | None
    windows: Windows | None
    input_shape: Shape

    def operation(self) -> Affine:
        """Return the layer as an operation."""
        if self.windows is None:
            return dense(self.weight, self.bias, self.bias_size)
        return convolution(self.weight, self.bias, self.windows, self.input_shape, self.bias_size)

    def scaled(self, factor: Tensor, offset: Tensor, offset_size: Tensor) -> "Weights | None":
        """Fold a factor and an offset per channel into the layer.

        Args:
            factor: (out,).
            offset: (out,).
            offset_size: (out,) sizes of the terms that the offset is the sum of.

        Returns:
            The layer; None where channels are not its rows.
        """
        if self.windows is None and len(self.input_shape) != 1:
            return None  # on (B, T, n) a BatchNorm acts on T, a linear layer on n
        weight = self.weight * factor.view(-1, *[1] * (self.weight.ndim - 1))
        if self.bias is None:
            return replace(self, weight=weight, bias=offset, bias_size=offset_size)
        own = factor * self.bias
        return replace(self, weight=weight, bias=offset + own, bias_size=offset_size + own.abs())

    def rotated(self) -> tuple[Affine, Affine] | None:
        """Fold the rotation of pairs into the layer.

        Returns:
            The layer without and with it; None where a pair crosses groups.
        """
        groups = 1 if self.windows is None else self.windows.groups
        if len(self.weight) // groups % 2 or (self.windows is None and len(self.input_shape) != 1):
            return None
        bias, size = None, None
        if self.bias is not None:  # a sum and a difference that may cancel, of numbers that do not
            bias = paired(self.bias)
            size = self.bias.abs() if self.bias_size is None else self.bias_size
            size = size.view(-1, 2).mean(dim=1).repeat_interleave(2)
        mixed = replace(self, weight=paired(self.weight), bias=bias, bias_size=size)
        return self.operation(), mixed.operation()


def _check_shapes(call: Call, weight: Tensor, bias: Tensor | None, *, axes: int) -> None:
    if weight.ndim != axes:
        raise call.refusal(f"with a weight of shape {tuple(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise call.refusal(f"with a bias of shape {tuple(bias.shape)}")


def _waiting(call: Call, weights: Weights, source: Value) -> Value:
    return Value(call.shape, foldable=weights, source=source, place=call.place)


@recognises("linear.default", reads="input weight bias")
def _linear(call: Call) -> Value:
    source = call.value("input")
    weight, bias = call.tensor("weight"), call.constant("bias")
    _check_shapes(call, weight, bias, axes=2)
    return _waiting(call, Weights(weight, bias, None, None, source.shape), source)


@recognises("matmul.default", reads="self other")
def _matmul(call: Call) -> Value:
    source, other = call.value("self"), call.tensor("other")
    if other.ndim != 2:
        raise call.refusal(f"by a tensor of shape {tuple(other.shape)}")
    return _waiting(call, Weights(other.T.contiguous(), None, None, None, source.shape), source)


@recognises("mm.default", reads="self mat2")
def _mm(call: Call) -> Value:
    source, other = call.value("self"), call.tensor("mat2")
    return _waiting(call, Weights(other.T.contiguous(), None, None, None, source.shape), source)


@recognises("conv2d.default", reads="input weight bias stride padding dilation groups")
def _conv2d(call: Call) -> Value:
    top, left = _two(call, "padding")
    return _convolved(call, ((top, top), (left, left)))


@recognises("conv2d.padding", reads="input weight bias stride padding dilation groups")
def _conv2d_padding(call: Call) -> Value:
    if call.arguments["padding"] == "valid":
        return _convolved(call, ((0, 0), (0, 0)))
    kernel, dilation = call.tensor("weight").shape[2:], _two(call, "dilation")
    totals = [d * (size - 1) for d, size in zip(dilation, kernel, strict=True)]
    (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
    return _convolved(call, ((top, bottom), (left, right)))


def _convolved(call: Call, padding: tuple[Two, Two]) -> Value:
    source, weight = call.value("input"), call.tensor("weight")
    if len(source.shape) != 3:
        raise call.refusal(f"on values of shape {source.shape} per image, not (C, H, W)")
    bias = call.constant("bias")
    _check_shapes(call, weight, bias, axes=4)
    windows = Windows(_two(call, "stride"), padding, _two(call, "dilation"), call.whole("groups"))
    pad, inner = source.foldable, source.source
    is_padded = isinstance(pad, Padded) and source.position is None and call.is_sole_reader
    if is_padded and inner is not None and padding == ((0, 0), (0, 0)) and len(pad.sides) == 4:
        mode = "zeros" if pad.mode == "constant" else pad.mode
        left, right, top, bottom = pad.sides
        if min(pad.sides) >= 0:
            windows = replace(windows, padding=((top, bottom), (left, right)), mode=mode)
            source = inner
    weights = Weights(weight, bias, None, windows, source.shape)
    return _waiting(call, weights, source)


def _two(call: Call, name: str) -> Two:
    given = call.wholes(name)
    if len(given) not in (1, 2):
        raise call.refusal(f"with {name} {given}")
    return given[0], given[-1]


@recognises(
    "_native_batch_norm_legit_no_training.default",
    reads="input weight bias running_mean running_var momentum eps",
)
def _decomposed_batch_norm(call: Call) -> Sequence[Value]:
    return [_batch_norm(call)]


@recognises(
    "batch_norm.default",
    reads="input weight bias running_mean running_var training momentum eps cudnn_enabled",
)
def _whole_batch_norm(call: Call) -> Value:
    if call.arguments["training"] is not False:
        raise call.refusal("normalizes by the images of the batch; does it keep no running mean?")
    return _batch_norm(call)


def _batch_norm(call: Call) -> Value:
    source = call.value("input")
    mean, variance = call.tensor("running_mean"), call.tensor("running_var")
    eps = call.number("eps")
    factor = (variance + eps).rsqrt()
    if not bool(torch.isfinite(factor).all()):
        raise call.refusal(
            f"with the variance {float(variance.min()):g} and eps {eps:g} divides by the "
            "root of no positive number"
        )
    weight, bias = call.constant("weight"), call.constant("bias")
    factor = factor if weight is None else factor * weight
    offset = -mean * factor
    size = offset.abs() if bias is None else offset.abs() + bias.abs()
    offset = offset if bias is None else offset + bias
    if source.position is None and source.foldable is not None and call.is_sole_reader:
        folded = source.foldable.scaled(factor, offset, size)
        if folded is not None:
            return Value(source.shape, foldable=folded, source=source.source, place=call.place)
    sides = (1, -1, *[1] * (len(source.shape) - 1))
    whole = scaling(factor.view(sides), offset.view(sides), size.view(sides))
    return call.emit(whole, source, shape=source.shape)
