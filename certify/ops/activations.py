"""Recognise activations."""

import math

from robustcl.certify.ops import scalar_function as functions
from robustcl.certify.ops.elementwise import Elementwise
from robustcl.certify.ops.registry import Call, Value, recognises
from robustcl.certify.ops.scalar_function import LARGEST_PARAMETER as LARGEST
from robustcl.certify.ops.scalar_function import ScalarFunction, usable

PLAIN: dict[str, ScalarFunction] = {
    "abs": functions.kinked("abs", -1.0),
    "hardswish": functions.HARDSWISH,
    "log_sigmoid": functions.LOG_SIGMOID,
    "mish": functions.MISH,
    "relu": functions.RELU,
    "selu": functions.SELU,
    "sigmoid": functions.SIGMOID,
    "silu": functions.SILU,
    "tanh": functions.TANH,
}


@recognises(*(f"{name}.default" for name in PLAIN))
def _plain(call: Call) -> Value:
    return call.emit(Elementwise(PLAIN[call.name.split(".")[1]]))


@recognises("relu6.default")
def _relu6(call: Call) -> Value:
    return call.emit(Elementwise(functions.clamped("ReLU6", 0.0, 6.0)))


@recognises("hardsigmoid.default")
def _hardsigmoid(call: Call) -> Value:
    return call.emit(Elementwise(functions.clamped("Hardsigmoid", -3.0, 3.0, slope=1.0 / 6.0)))


@recognises("hardtanh.default", reads="self min_val max_val")
def _hardtanh(call: Call) -> Value:
    return _between(call, call.number("min_val"), call.number("max_val"))


@recognises("clamp.default", reads="self min max")
def _clamp(call: Call) -> Value:
    low, high = call.constant("min"), call.constant("max")
    return _between(
        call,
        -math.inf if low is None else call.number("min"),
        math.inf if high is None else call.number("max"),
    )


@recognises("clamp_min.default", reads="self min")
def _clamp_min(call: Call) -> Value:
    return _between(call, call.number("min"), math.inf)


@recognises("clamp_max.default", reads="self max")
def _clamp_max(call: Call) -> Value:
    return _between(call, -math.inf, call.number("max"))


def _between(call: Call, low: float, high: float) -> Value:
    if low == 0.0 and high == math.inf:
        return call.emit(Elementwise(functions.RELU))
    if not low < high:
        raise call.refusal(f"between {low:g} and {high:g}")
    for end in (low, high):
        if math.isfinite(end):
            usable("clamp", "bound", end)
    return call.emit(Elementwise(functions.clamped("clamp", low, high)))


@recognises("leaky_relu.default", reads="self negative_slope")
def _leaky_relu(call: Call) -> Value:
    below = usable("LeakyReLU", "negative_slope", call.number("negative_slope"))
    return call.emit(Elementwise(functions.kinked("LeakyReLU", below)))


@recognises("prelu.default", reads="self weight")
def _prelu(call: Call) -> Value:
    weight = call.tensor("weight")
    if weight.numel() == 1:
        return call.emit(Elementwise(functions.kinked("PReLU", usable("PReLU", "weight", weight))))
    sides = (1, -1, *[1] * (len(call.shape) - 1))
    for slope in weight.tolist():
        usable("PReLU", "weight", slope)
    return call.emit(Elementwise(functions.kinked_by_channel("PReLU", weight.view(sides))))


@recognises("elu.default", reads="self alpha scale input_scale")
def _elu(call: Call) -> Value:
    alpha = usable("ELU", "alpha", call.number("alpha"))
    scale, rate = call.number("scale"), call.number("input_scale")
    if (scale, rate) == (1.0, 1.0):
        return call.emit(Elementwise(functions.elu(alpha)))
    if not (0.0 < scale < LARGEST and 0.0 < rate < LARGEST):
        raise call.refusal(f"with scale {scale:g} and input_scale {rate:g}")
    return call.emit(Elementwise(functions.scaled_elu("ELU", alpha, scale=scale, rate=rate)))


@recognises("celu.default", reads="self alpha")
def _celu(call: Call) -> Value:
    alpha = usable("CELU", "alpha", call.number("alpha"))
    if not alpha > 1.0 / LARGEST:
        raise call.refusal(f"with alpha {alpha:g}")
    celu = functions.scaled_elu("CELU", alpha, scale=1.0, rate=1.0 / alpha)
    return call.emit(Elementwise(celu))


@recognises("gelu.default", reads="self approximate")
def _gelu(call: Call) -> Value:
    kinds = {"none": functions.GELU, "tanh": functions.TANH_GELU}
    return call.emit(Elementwise(kinds[str(call.arguments["approximate"])]))


@recognises("softplus.default", reads="self beta threshold")
def _softplus(call: Call) -> Value:
    beta = usable("Softplus", "beta", call.number("beta"))
    threshold = usable("Softplus", "threshold", call.number("threshold"))
    return call.emit(Elementwise(functions.softplus(beta, threshold)))
