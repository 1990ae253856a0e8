"""Recognise means, sums and average pooling."""

import math
from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional

from robustcl.certify.ops.affine import averaging
from robustcl.certify.ops.pooling_norm import average_norms, mean_norms
from robustcl.certify.ops.registry import Call, Value, recognises
from robustcl.certify.rounding import round_up
from robustcl.core.choices import CertifiedNorm

Axis = Callable[[Tensor], Tensor]


@recognises("mean.dim", reads="self dim keepdim")
def _mean(call: Call) -> Value:
    source, axes, keep = *_reduced(call), bool(call.arguments["keepdim"])
    norms, terms = mean_norms([source.shape[axis] for axis in axes])
    dims = [axis + 1 for axis in axes]
    return call.emit(averaging(lambda x: x.mean(dims, keepdim=keep), source.shape, norms, terms))


@recognises("sum.dim_IntList", reads="self dim keepdim")
def _sum(call: Call) -> Value:
    source, axes, keep = *_reduced(call), bool(call.arguments["keepdim"])
    count = math.prod(source.shape[axis] for axis in axes)
    norms: dict[CertifiedNorm, float] = {"l2": round_up(math.sqrt(count)), "linf": float(count)}
    dims = [axis + 1 for axis in axes]
    return call.emit(averaging(lambda x: x.sum(dims, keepdim=keep), source.shape, norms, count))


def _reduced(call: Call) -> tuple[Value, Sequence[int]]:
    source = call.value("self")
    if call.arguments["dim"] is None or not call.wholes("dim"):
        raise call.mixing()
    return source, sorted(set(call.axes(call.wholes("dim"))))


@recognises("adaptive_avg_pool2d.default", reads="self output_size")
def _adaptive(call: Call) -> Value:
    source, sizes = call.value("self"), call.wholes("output_size")
    _check_image(call, source)

    def along(size: int) -> Axis:
        return lambda line: functional.adaptive_avg_pool1d(line, size)

    norms = average_norms([along(size) for size in sizes], source.shape[1:])
    area = source.shape[1] * source.shape[2]

    def pool(x: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(x, (sizes[0], sizes[-1]))

    return call.emit(averaging(pool, source.shape, norms, area))


@recognises(
    "avg_pool2d.default",
    reads="self kernel_size stride padding ceil_mode count_include_pad divisor_override",
)
def _average(call: Call) -> Value:
    source = call.value("self")
    _check_image(call, source)
    kernel, padding = _pair(call, "kernel_size"), _pair(call, "padding")
    stride = _pair(call, "stride") if call.arguments["stride"] else kernel
    ceil, counts = bool(call.arguments["ceil_mode"]), bool(call.arguments["count_include_pad"])
    override, scale = call.arguments["divisor_override"], 1.0
    if override is not None:
        if call.whole("divisor_override") < 1:
            raise call.refusal(f"with the divisor {override}")
        if ceil:
            raise call.refusal("with divisor_override and ceil_mode")
        # Windows cut by the border keep the override; counting the padding bounds them by k^2.
        scale, counts_padding = math.prod(kernel) / call.whole("divisor_override"), True
    else:
        counts_padding = counts

    def along(axis: int) -> Axis:
        return lambda line: functional.avg_pool1d(
            line, kernel[axis], stride[axis], padding[axis], ceil, counts_padding
        )

    def pool(x: Tensor) -> Tensor:
        divisor = None if override is None else call.whole("divisor_override")
        return functional.avg_pool2d(x, kernel, stride, padding, ceil, counts, divisor)

    norms = average_norms([along(0), along(1)], source.shape[1:], scale=scale)
    area = source.shape[1] * source.shape[2]
    return call.emit(averaging(pool, source.shape, norms, area))


def _check_image(call: Call, source: Value) -> None:
    if len(source.shape) != 3:
        raise call.refusal(f"on values of shape {source.shape} per image, not (C, H, W)")


def _pair(call: Call, name: str) -> tuple[int, int]:
    given = call.wholes(name)
    if len(given) not in (1, 2):
        raise call.refusal(f"with {name} {given}")
    return given[0], given[-1]
