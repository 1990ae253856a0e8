"""Recognise sums, differences, and products with constants."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.certify.ops import scalar_function as functions
from robustcl.certify.ops.affine import Affine, scaling
from robustcl.certify.ops.elementwise import Elementwise
from robustcl.certify.ops.index_map import moved
from robustcl.certify.ops.registry import Call, Value, recognises
from robustcl.certify.ops.sum import Sum


@recognises("add.Tensor", reads="self other alpha")
def _add(call: Call) -> Value:
    return _total(call, 1.0)


@recognises("sub.Tensor", reads="self other alpha")
def _sub(call: Call) -> Value:
    return _total(call, -1.0)


@recognises("rsub.Scalar", "rsub.Tensor", reads="self other alpha")
def _rsub(call: Call) -> Value:
    if call.number("alpha") != 1.0:
        raise call.refusal("with alpha")
    minus = torch.tensor(-1.0, dtype=torch.float64, device=call.steps.device)
    return _scaled(call, call.value("self"), minus, call.tensor("other"))


def _total(call: Call, sign: float) -> Value:
    first, second = call.arguments["self"], call.arguments["other"]
    factor = call.number("alpha") * sign
    if isinstance(first, Value) and isinstance(second, Value):
        values = [_widened(call, first), _widened(call, second)]
        if abs(factor) != 1.0:
            size = torch.tensor(abs(factor), dtype=torch.float64, device=call.steps.device)
            values[1] = _scaled(call, values[1], size, None)
        return call.emit(Sum((1.0, 1.0 if factor > 0 else -1.0)), *values)
    one = torch.ones((), dtype=torch.float64, device=call.steps.device)
    if isinstance(first, Value):
        return _scaled(call, first, one, call.tensor("other") * factor)
    return _scaled(call, call.value("other"), one * factor, call.tensor("self"))


@recognises("mul.Tensor", "mul.Scalar", reads="self other")
def _mul(call: Call) -> Value:
    name = "other" if isinstance(call.arguments["self"], Value) else "self"
    return _scaled(call, call.inputs[0], call.tensor(name), None)


@recognises("div.Tensor", "div.Scalar", reads="self other")
def _div(call: Call) -> Value:
    divisor = call.tensor("other")
    if not bool((divisor != 0).all()):
        raise call.refusal("by 0")
    return _scaled(call, call.value("self"), 1.0 / divisor, None)


@recognises("neg.default")
def _neg(call: Call) -> Value:
    minus = torch.tensor(-1.0, dtype=torch.float64, device=call.steps.device)
    return _scaled(call, call.inputs[0], minus, None)


def _scaled(call: Call, value: Value, factor: Tensor, offset: Tensor | None) -> Value:
    factor = _per_image(call, factor)
    offset = None if offset is None else _per_image(call, offset)
    for constant in (factor, offset):
        if constant is not None and not bool(torch.isfinite(constant).all()):
            raise call.refusal("with a constant that is not finite")
    value = _widened(call, value)
    before = value.foldable if value.position is None and call.is_sole_reader else None
    if isinstance(before, Scale):
        return Value(
            call.shape, foldable=before.then(factor, offset), source=value.source, place=call.place
        )
    return Value(call.shape, foldable=Scale(factor, offset, None), source=value, place=call.place)


@dataclass(frozen=True, eq=False)
class Scale:
    """Hold a multiplication entry by entry while another may still be folded into it.

    Args:
        factor: Broadcasts to (B, *shape), float64.
        offset: Likewise, or None.
        offset_size: Likewise, sizes of the terms that it is the sum of; None for its own.
    """

    factor: Tensor
    offset: Tensor | None
    offset_size: Tensor | None

    def operation(self) -> Affine:
        """Return it as an operation."""
        return scaling(self.factor, self.offset, self.offset_size)

    def then(self, factor: Tensor, offset: Tensor | None) -> "Scale":
        """Fold another one into it.

        Args:
            factor: Of the other.
            offset: Of the other.

        Returns:
            Both together.
        """
        own = None if self.offset is None else self.offset * factor
        if own is None or offset is None:
            return Scale(self.factor * factor, offset if own is None else own, self.offset_size)
        size = own.abs() if self.offset_size is None else self.offset_size * factor.abs()
        return Scale(self.factor * factor, own + offset, size + offset.abs())

    def scaled(self, factor: Tensor, offset: Tensor, offset_size: Tensor) -> None:
        """Fold no BatchNorm into it."""
        del factor, offset, offset_size

    def rotated(self) -> None:
        """Fold no rotation into it."""


def _per_image(call: Call, constant: Tensor) -> Tensor:
    # One for all images: what broadcasts to (B, *shape).
    wanted = len(call.shape) + 1
    if constant.ndim > wanted:
        raise call.mixing()
    if constant.ndim == wanted and constant.shape[0] > 1:
        if not bool((constant == constant[:1]).all()):
            raise call.refusal("with a constant that differs between the images of a batch")
        constant = constant[:1]
    return constant


def _widened(call: Call, value: Value) -> Value:
    # Repeated along new axes as the call broadcasts it.
    if value.shape == call.shape:
        return value
    whole = (call.steps.batch, *call.shape)
    return moved(call, lambda places: places.expand(whole), value)[0]


@recognises("maximum.default", reads="self other")
def _maximum(call: Call) -> Value:
    return _larger(call, 1.0)


@recognises("minimum.default", reads="self other")
def _minimum(call: Call) -> Value:
    return _larger(call, -1.0)


def _larger(call: Call, sign: float) -> Value:
    # max(a, b) = (a + b) / 2 + |a - b| / 2.
    if len(call.inputs) != 2:
        raise call.refusal("with a constant")
    values = [_widened(call, value) for value in call.inputs]
    half = torch.tensor(0.5, dtype=torch.float64, device=call.steps.device)
    total = _scaled(call, call.emit(Sum((1.0, 1.0)), *values), half, None)
    gap = _scaled(call, call.emit(Sum((1.0, -1.0)), *values), half, None)
    size = call.emit(Elementwise(functions.kinked("abs", -1.0)), gap)
    return call.emit(Sum((1.0, sign)), total, size)


@recognises("where.self", reads="condition self other")
def _where(call: Call) -> Value:
    chosen = call.arguments["condition"]
    if not isinstance(chosen, Tensor) or chosen.dtype != torch.bool:
        raise call.refusal("with a condition that is no mask")
    mask = _per_image(call, chosen.double())
    parts = []
    for name, share in (("self", mask), ("other", 1.0 - mask)):
        given = call.arguments[name]
        if isinstance(given, Value):
            parts.append(_scaled(call, given, share, None))
        else:
            parts.append(share * _per_image(call, call.tensor(name)))
    first, second = parts
    if isinstance(first, Value) and isinstance(second, Value):
        return call.emit(Sum((1.0, 1.0)), first, second)
    one = torch.ones((), dtype=torch.float64, device=call.steps.device)
    moving, still = (first, second) if isinstance(first, Value) else (second, first)
    if not isinstance(moving, Value) or not isinstance(still, Tensor):
        raise call.refusal("of constants")
    return _scaled(call, moving, one, still)
