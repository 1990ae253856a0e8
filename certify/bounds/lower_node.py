"""Lower one node of a traced network to an operation."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.nn import functional

from robustcl.certify.bounds.lower import NORMALIZATIONS, folded, lower_layer, max_min
from robustcl.certify.graph import Step
from robustcl.certify.ops.affine import averaging, reshaping, scaling
from robustcl.certify.ops.concatenation import Concatenation
from robustcl.certify.ops.operation import Operation, Shape
from robustcl.certify.ops.pooling_norm import mean_norms
from robustcl.certify.ops.sum import Sum
from robustcl.encoders.max_min import MaxMin
from robustcl.errors import UnsupportedError

BATCH = 2  # images traced; one alone would not show where a network mixes them
SUMS = (operator.add, operator.iadd, torch.add)
DIFFERENCES = (operator.sub, operator.isub, torch.sub)
SUM_METHODS, DIFFERENCE_METHODS = ("add", "add_"), ("sub", "sub_")
CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
VIEWS = ("flatten", "view", "reshape", "contiguous", "clone")
# Functions that are the same as a layer, made from the call's arguments after the input.
AS_LAYERS: dict[Callable[..., Any], type[nn.Module]] = {
    functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    functional.avg_pool2d: nn.AvgPool2d,
    functional.relu: nn.ReLU,
    functional.gelu: nn.GELU,
    functional.silu: nn.SiLU,
    functional.leaky_relu: nn.LeakyReLU,
    functional.elu: nn.ELU,
    functional.softplus: nn.Softplus,
    torch.relu: nn.ReLU,
    torch.tanh: nn.Tanh,
    torch.sigmoid: nn.Sigmoid,
}
METHODS_AS_LAYERS = {"relu": nn.ReLU, "relu_": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


@dataclass(frozen=True, eq=False)
class Context:
    """Hold a graph while it is lowered.

    Args:
        modules: The network's layers by name.
        values: What each node gave on `BATCH` images.
        steps: The steps so far, filled in by the caller.
        made: Positions of the nodes that depend on the image.
    """

    modules: Mapping[str, nn.Module]
    values: dict[fx.Node, Any]
    steps: list[Step]
    made: dict[fx.Node, int]

    def shape(self, node: fx.Node) -> Shape:
        """Return the shape of one output of a node.

        Args:
            node: The node.

        Returns:
            Its shape without the batch.
        """
        return tuple(self.values[node].shape[1:])


def lower_node(node: fx.Node, context: Context) -> list[Operation]:
    """Describe what a node does, together with what is folded into it.

    Args:
        node: A node that depends on the image.
        context: The graph.

    Returns:
        The operations, one after the other: one, but for MaxMin.

    Raises:
        UnsupportedError: When it has no guaranteed norm.
    """
    if node.op == "call_module":
        return _lower_module(node, context)
    return [_lower_call(node, context)]


def _lower_call(node: fx.Node, context: Context) -> Operation:
    source, shape = sources(node)[0], context.shape(node)
    target, is_method = node.target, node.op == "call_method"
    if target in SUMS or (is_method and target in SUM_METHODS):
        return _lower_sum(node, context, sign=1.0)
    if target in DIFFERENCES or (is_method and target in DIFFERENCE_METHODS):
        return _lower_sum(node, context, sign=-1.0)
    if target in CONCATENATIONS:
        return _lower_concatenation(node, context)
    if target is torch.flatten or (is_method and target in VIEWS):
        _given(node, ("input", "start_dim", "end_dim", "memory_format"), sizes=True)
        return reshaping(context.shape(source), shape)
    if target is functional.dropout:
        options = _given(node, ("input", "p", "training", "inplace"))
        if options.get("training", True) is not False:
            raise UnsupportedError("a dropout that is active outside training")
        return reshaping(shape, shape)
    if target in (operator.mul, operator.truediv) and len(sources(node)) == 1:
        return _lower_product(node, context)
    if target is torch.mean or (is_method and target == "mean"):
        return _lower_mean(node, context)
    layer: nn.Module | None = None
    if is_method and target in METHODS_AS_LAYERS:
        _given(node, ("input",))
        layer = METHODS_AS_LAYERS[str(target)]()
    elif not is_method and target in AS_LAYERS:
        layer = _as_layer(node)
    if layer is None:
        raise UnsupportedError(f"the operation {node_name(node)!r}")
    return lower_layer(layer, context.shape(source), shape)


def _given(
    node: fx.Node, names: tuple[str, ...], *, named: tuple[str, ...] = (), sizes: bool = False
) -> dict[str, Any]:
    # The arguments of a call by name; with `sizes` any number may follow. What is not among the
    # names is refused: it may change what the call does, as `dtype`, `out` and the old signature
    # add(x, alpha, y) do.
    strange = [key for key in node.kwargs if key not in (*names, *named, "self")]
    if len(node.args) > len(names) and not sizes:
        strange.append(f"number {len(node.args)}")
    strange += [repr(value) for value in node.args if isinstance(value, torch.dtype)]
    if strange:
        raise UnsupportedError(f"{node_name(node)!r} with the argument {strange[0]}")
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _as_layer(node: fx.Node) -> nn.Module:
    # The arguments of these functions have the names and the order of the layers' own.
    kind = AS_LAYERS[node.target]  # pyright: ignore[reportArgumentType]
    named = {key: value for key, value in node.kwargs.items() if key != "input"}
    rest = node.args if "input" in node.kwargs else node.args[1:]
    if len(sources(node)) != 1:
        raise UnsupportedError(f"{node_name(node)!r} with an argument that is computed")
    try:
        return kind(*rest, **named)
    except TypeError as error:
        raise UnsupportedError(f"{node_name(node)!r} with arguments of its own") from error


def _lower_module(node: fx.Node, context: Context) -> list[Operation]:
    layer, source = context.modules[str(node.target)], sources(node)[0]
    before: Any = None  # a BatchNorm between the first layer and this one
    first = source
    if _is_folded(source, context) and _kind(source, context) in NORMALIZATIONS:
        before, first = context.modules[str(source.target)], sources(source)[0]
    if not _is_folded(first, context):
        shapes = context.shape(source), context.shape(node)
        return max_min(shapes[1], None) if type(layer) is MaxMin else [lower_layer(layer, *shapes)]
    inner: Any = context.modules[str(first.target)]
    shape = context.shape(sources(first)[0])
    if type(layer) is MaxMin:
        both = folded(inner, before, shape), folded(inner, before, shape, pairs=True)
        return max_min(context.shape(node), both)
    return [folded(inner, layer, shape)]  # pyright: ignore[reportReturnType, reportArgumentType]


def _kind(node: fx.Node, context: Context) -> type[nn.Module] | None:
    return type(context.modules[str(node.target)]) if node.op == "call_module" else None


def _is_folded(node: fx.Node, context: Context) -> bool:
    return node.op == "call_module" and folds(node, context) is not None


def _lower_sum(node: fx.Node, context: Context, *, sign: float) -> Operation:
    options = _given(node, ("input", "other"), named=("alpha",))
    if isinstance(options.get("alpha"), fx.Node) or options.get("alpha", 1) != 1:
        raise UnsupportedError("a sum with alpha has no known norm")
    terms: list[Any] = [options.get("input", options.get("self")), options.get("other")]
    shape = context.shape(node)
    moving = [t for t in terms if isinstance(t, fx.Node) and t in context.made]
    if any(context.shape(term) != shape for term in moving):
        raise UnsupportedError(f"{node_name(node)!r} repeats a value along new axes")
    if len(moving) == len(terms):
        return Sum((1.0, sign))
    first = terms[0] is moving[0]
    still = context.values[terms[first]] if isinstance(terms[first], fx.Node) else terms[first]
    offset = _real(still, node) * (sign if first else 1.0)
    if offset.ndim > len(shape) and not bool((offset == offset[:1]).all()):
        raise UnsupportedError("a constant that differs between the images of a batch")
    offset = offset[:1] if offset.ndim > len(shape) else offset
    factor = torch.tensor(1.0 if first else sign, dtype=torch.float64)
    return scaling(factor.to(offset.device), offset)


def _lower_concatenation(node: fx.Node, context: Context) -> Concatenation:
    parts, options = sources(node), _given(node, ("tensors", "dim"))
    axis = options.get("dim", 0)
    if not isinstance(axis, int):
        raise UnsupportedError(f"{node_name(node)!r} along {axis!r}")
    axis %= context.values[node].ndim
    if axis == 0:
        raise UnsupportedError(
            f"the operation {node_name(node)!r}, which does not keep images apart"
        )
    return Concatenation(axis - 1, tuple(context.values[p].shape[axis] for p in parts))


def _lower_product(node: fx.Node, context: Context) -> Operation:
    number = node.args[1] if isinstance(node.args[0], fx.Node) else node.args[0]
    if node.target is operator.truediv and number is node.args[0]:
        raise UnsupportedError(f"the operation {node_name(node)!r}")
    factor = _real(number, node)
    if node.target is operator.truediv:
        factor = 1.0 / factor
    if factor.ndim or not bool(torch.isfinite(factor)):
        raise UnsupportedError(f"{node_name(node)!r} by {number!r}")
    return scaling(factor.to(context.values[node].device), None)


def _real(value: Any, node: fx.Node) -> Tensor:
    # A number or a tensor that is added or multiplied, in float64.
    if isinstance(value, Tensor) and not value.is_complex():
        return value.detach().double()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return torch.tensor(float(value), dtype=torch.float64)
    raise UnsupportedError(f"{node_name(node)!r} of {value!r}")


def _lower_mean(node: fx.Node, context: Context) -> Operation:
    source, options = sources(node)[0], _given(node, ("input", "dim", "keepdim"))
    dims = options.get("dim")
    shape = (BATCH, *context.shape(source))
    axes = [dims] if isinstance(dims, int) else list(dims or [0])
    axes = sorted({int(axis) % len(shape) for axis in axes})
    if 0 in axes:
        raise UnsupportedError("a mean over the batch")
    keep = len(context.values[node].shape) == len(shape)
    norms, terms = mean_norms([shape[axis] for axis in axes])
    return averaging(lambda x: x.mean(axes, keepdim=keep), shape[1:], norms, terms)


def sources(node: fx.Node) -> list[fx.Node]:
    """List the nodes that a node reads.

    Args:
        node: The node.

    Returns:
        Every input as often as it is used: x + x has two.
    """
    found: list[fx.Node] = []
    map_arg((node.args, node.kwargs), found.append)
    return found


def folds(node: fx.Node, context: Context) -> nn.Module | None:
    """Find the layer that a convolution, a linear layer or the BatchNorm behind is folded into.

    Args:
        node: Any node.
        context: The graph.

    Returns:
        The BatchNorm or MaxMin that alone reads such a layer, else None.
    """
    users = list(node.users)
    if node.op != "call_module" or len(users) != 1 or users[0].op != "call_module":
        return None
    kind, follower = _kind(node, context), context.modules[str(users[0].target)]
    if kind in NORMALIZATIONS:
        first = sources(node)[0]
        is_tail = type(follower) is MaxMin and _is_folded(first, context)
        return follower if is_tail and _keeps_pairs(first, context) else None
    if kind is not nn.Conv2d and (kind is not nn.Linear or len(context.shape(node)) != 1):
        return None  # on (B, T, n) a BatchNorm acts on T, a linear layer on n
    if type(follower) is MaxMin:
        return follower if _keeps_pairs(node, context) else None
    return follower if type(follower) in NORMALIZATIONS else None


def _keeps_pairs(node: fx.Node, context: Context) -> bool:
    # Whether both channels of each pair come from the same group of a convolution.
    layer = context.modules[str(node.target)]
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return context.shape(node)[0] // groups % 2 == 0


def node_name(node: fx.Node) -> str:
    """Name what a node calls, for messages.

    Args:
        node: The node.

    Returns:
        The name.
    """
    return str(getattr(node.target, "__name__", node.target))
