"""Bound the Lipschitz constant of an encoder by the product of its layers' norms."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from certify.bounds.convolution_norm import convolution_norm
from certify.bounds.dense_norm import round_up
from certify.bounds.layer_norm import batch_norm_scale, combined_norm, layer_norm, weight_norm
from robustcl.classifier import Encoder
from robustcl.errors import UnsupportedError
from robustcl.frozen import frozen
from robustcl.threat import Norm, check_norm

CURE = "smoothing:form=vote certifies any network, and first_order estimates"
ADDITIONS = (operator.add, operator.iadd, operator.sub, torch.add, torch.sub)
ADDING_METHODS = ("add", "add_", "sub", "sub_")
CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
VIEWS = ("flatten", "view", "reshape", "contiguous")
NON_EXPANSIVE_METHODS = (*VIEWS, "clone", "relu", "relu_", "tanh")
NON_EXPANSIVE = (torch.flatten, torch.relu, torch.tanh, functional.relu)
ACTIVATIONS = (functional.relu, functional.silu, functional.leaky_relu, functional.elu)
BATCH = 2  # images traced; one alone would not show where a network mixes them
# Functions that are the same as a layer, made from the call's arguments after the input.
AS_LAYERS: dict[Callable[..., Any], type[nn.Module]] = {
    functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    functional.avg_pool2d: nn.AvgPool2d,
    functional.gelu: nn.GELU,
    functional.silu: nn.SiLU,
    functional.leaky_relu: nn.LeakyReLU,
    functional.elu: nn.ELU,
}


@dataclass(frozen=True, eq=False)
class NetworkNorm:
    """Bound an encoder's raw embedding h, with its last linear layer kept apart.

    Args:
        norm: Norm of the perturbation, p.
        prefix: Bound from the image to the input of the last linear layer, p to p.
        last: (d, m) float64 weight of the last linear layer; None where the network ends in
            another layer.
        total: Bound of h from p to L2.
        spatial: For Linf, the L2 bound and sqrt(D), whose product is a second bound.
    """

    norm: Norm
    prefix: float
    last: Tensor | None
    total: float
    spatial: "tuple[NetworkNorm, float] | None" = None

    def along(self, directions: Tensor) -> Tensor:
        """Bound the Lipschitz constant of a.h for each direction a.

        Args:
            directions: (..., d) float64.

        Returns:
            (...) upper bounds in the dual norm, rounded up.
        """
        rows = directions if self.last is None else directions @ self.last
        order = 2.0 if self.norm == "l2" else 1.0
        bound = torch.linalg.vector_norm(rows, order, dim=-1) * round_up(self.prefix)
        if self.spatial is None:
            return bound
        other, root = self.spatial
        return torch.minimum(bound, other.along(directions) * root)


def network_norm(encoder: Encoder, *, norm: Norm = "l2") -> NetworkNorm:
    """Bound |h(x) - h(y)| over all images, from the layers' guaranteed norms.

    The network is traced by torch.fx. Norms multiply along a chain, add at a residual sum, and
    combine at a concatenation; a BatchNorm that alone follows a convolution is folded into it; the
    input normalization counts by its largest 1/std.

    Args:
        encoder: The encoder; left as it was.
        norm: 'l2' or 'linf', in pixel units at the input.

    Returns:
        The bound. A layer without a known norm is refused by name and place, as are a network that
        cannot be traced, one that mixes the images of a batch, and one that overwrites a value it
        uses again. A network that draws random numbers in eval mode is not covered.
    """
    if check_norm(norm) == "linf":
        other = network_norm(encoder, norm="l2")
        root = round_up(math.sqrt(math.prod(encoder.image_shape)))
        bound = _walk(encoder, "linf")
        return replace(bound, total=min(bound.total, other.total * root), spatial=(other, root))
    return _walk(encoder, "l2")


class _Value(NamedTuple):
    bound: float
    constant: bool  # independent of the image


def _walk(encoder: Encoder, norm: Norm) -> NetworkNorm:
    with frozen(encoder), torch.no_grad():
        graph_module = _trace(encoder)
        modules: dict[str, nn.Module] = {**dict(graph_module.named_modules())}
        values: dict[fx.Node, _Value] = {}
        for node in graph_module.graph.nodes:
            if node.op != "output":
                values[node] = _node_value(node, modules, values, norm, encoder)
        return _finish(graph_module, modules, values, norm)


def _trace(encoder: Encoder) -> fx.GraphModule:
    for name, part in encoder.backbone.named_modules():
        if part._forward_hooks or part._forward_pre_hooks:
            raise UnsupportedError(f"layer {name!r} has hooks, which tracing cannot see; {CURE}")
    try:
        graph_module = fx.symbolic_trace(encoder.backbone)
        images = torch.zeros_like(encoder.mean).expand(BATCH, *encoder.image_shape)
        ShapeProp(graph_module).propagate(images)
    except Exception as error:  # tracing runs the network's own code
        raise UnsupportedError(f"torch.fx cannot trace the network ({error}); {CURE}") from error
    return graph_module


def _node_value(
    node: fx.Node,
    modules: dict[str, nn.Module],
    values: dict[fx.Node, _Value],
    norm: Norm,
    encoder: Encoder,
) -> _Value:
    if node.op == "placeholder":
        return _Value(round_up(1.0 / float(encoder.std.double().min())), False)
    inputs = [values[source] for source in _sources(node)]
    if node.op == "get_attr" or _reads_shape(node) or (inputs and all(v.constant for v in inputs)):
        return _Value(0.0, True)
    moving = [value.bound for value in inputs if not value.constant]
    try:
        _check_meaning(node, modules)
        return _Value(_bound(node, modules, moving, norm), False)
    except UnsupportedError as error:
        place = node.target if isinstance(node.target, str) else node.name
        raise UnsupportedError(f"{error} (at {place!r} in the network); {CURE}") from error


def _sources(node: fx.Node) -> list[fx.Node]:
    # Every input as often as it is used: x + x has two.
    found: list[fx.Node] = []
    map_arg((node.args, node.kwargs), found.append)
    return found


def _reads_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in ("size", "dim")
    return node.target is getattr and node.args[1] in ("shape", "ndim", "dtype", "device")


def _check_meaning(node: fx.Node, modules: dict[str, nn.Module]) -> None:
    # Refuse what mixes images, and what changes a value that is used again.
    tensor = node.meta.get("tensor_meta")
    if not _sources(node) or getattr(tensor, "shape", (0,))[:1] != (BATCH,):
        raise UnsupportedError(f"the operation {_name(node)!r}, which does not keep images apart")
    if not _overwrites(node, modules):
        return
    source = _sources(node)[0]
    while True:
        if len(source.users) > 1:
            raise UnsupportedError(f"{_name(node)!r} overwrites a value that is used again")
        is_view = source.op == "call_method" and source.target in VIEWS
        if not (is_view or source.target is torch.flatten):
            return
        source = _sources(source)[0]


def _overwrites(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_")
    positional = node.target in ACTIVATIONS and any(arg is True for arg in node.args)
    return node.target is operator.iadd or positional or bool(node.kwargs.get("inplace"))


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _bound(node: fx.Node, modules: dict[str, nn.Module], moving: list[float], norm: Norm) -> float:
    if node.op == "call_module":
        return moving[0] * _module_norm(node, modules, norm)
    if node.target in ADDITIONS or (node.op == "call_method" and node.target in ADDING_METHODS):
        if node.kwargs.get("alpha", 1) != 1:
            raise UnsupportedError("a sum with alpha has no known norm")
        return round_up(sum(moving))
    if node.target in CONCATENATIONS:
        return combined_norm(moving, norm=norm)
    is_method = node.op == "call_method"
    if node.target in NON_EXPANSIVE or (is_method and node.target in NON_EXPANSIVE_METHODS):
        return moving[0]
    if node.target is functional.dropout:
        if node.kwargs.get("training", (*node.args, True, True)[2]) is not False:
            raise UnsupportedError("a dropout that is active outside training")
        return moving[0]
    if node.target in (operator.mul, operator.truediv) and not isinstance(node.args[1], fx.Node):
        factor = abs(float(node.args[1]))  # pyright: ignore[reportArgumentType]
        return round_up(moving[0] * (factor if node.target is operator.mul else 1.0 / factor))
    if node.target is torch.mean or (is_method and node.target == "mean"):
        return moving[0] * _mean_norm(node, norm)
    if node.target in AS_LAYERS:
        return moving[0] * layer_norm(_as_layer(node), _shape(_sources(node)[0]), norm=norm)
    raise UnsupportedError(f"the operation {_name(node)!r}")


def _as_layer(node: fx.Node) -> nn.Module:
    # The arguments of these functions have the names and the order of the layers' own.
    kind = AS_LAYERS[node.target]  # pyright: ignore[reportArgumentType]
    named = {key: value for key, value in node.kwargs.items() if key != "input"}
    return kind(*(node.args if "input" in node.kwargs else node.args[1:]), **named)


def _module_norm(node: fx.Node, modules: dict[str, nn.Module], norm: Norm) -> float:
    layer = modules[str(node.target)]
    source = node.all_input_nodes[0]
    if type(layer) is nn.Conv2d and _folds(node, modules) is not None:
        return 1.0  # counted at the BatchNorm that follows
    convolution = modules.get(str(source.target)) if source.op == "call_module" else None
    if isinstance(convolution, nn.Conv2d) and _folds(source, modules) is layer:
        assert isinstance(layer, nn.BatchNorm2d)
        scale = batch_norm_scale(layer).view(-1, 1, 1, 1)
        folded = convolution.weight.detach().double() * scale
        shape = _shape(source.all_input_nodes[0])
        return convolution_norm(convolution, shape, norm=norm, weight=folded)
    return layer_norm(layer, _shape(source), norm=norm)


def _folds(node: fx.Node, modules: dict[str, nn.Module]) -> nn.BatchNorm2d | None:
    users = list(node.users)
    if len(users) != 1 or users[0].op != "call_module":
        return None
    if type(modules[str(node.target)]) is not nn.Conv2d:
        return None
    follower = modules[str(users[0].target)]
    return follower if type(follower) is nn.BatchNorm2d else None


def _mean_norm(node: fx.Node, norm: Norm) -> float:
    dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    if dims is None:
        raise UnsupportedError("a mean over the batch")
    shape = (BATCH, *_shape(node.all_input_nodes[0]))
    axes = [dims] if isinstance(dims, int) else list(dims)  # pyright: ignore[reportArgumentType]
    if any(axis % len(shape) == 0 for axis in axes):
        raise UnsupportedError("a mean over the batch")
    count = math.prod(shape[axis] for axis in axes)
    return round_up(1.0 / math.sqrt(count)) if norm == "l2" else 1.0


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape[1:])


def _finish(
    graph_module: fx.GraphModule,
    modules: dict[str, nn.Module],
    values: dict[fx.Node, _Value],
    norm: Norm,
) -> NetworkNorm:
    output = next(node for node in graph_module.graph.nodes if node.op == "output")
    end = output.args[0]
    if not isinstance(end, fx.Node) or len(_shape(end)) != 1:
        raise UnsupportedError(f"the network's output is not one (B, d) tensor; {CURE}")
    width = _shape(end)[0]
    while end.op == "call_module" and type(modules[str(end.target)]) in (nn.Identity, nn.Dropout):
        end = end.all_input_nodes[0]
    layer = modules[str(end.target)] if end.op == "call_module" else None
    if not isinstance(layer, nn.Linear) or type(layer) is not nn.Linear:
        bound = values[end].bound
        total = bound if norm == "l2" else bound * math.sqrt(width)
        return NetworkNorm(norm, bound, None, round_up(total))
    prefix = values[end.all_input_nodes[0]].bound
    last = layer.weight.detach().double()
    spectral = weight_norm(last, norm="l2")
    if norm == "l2":
        return NetworkNorm(norm, prefix, last, round_up(prefix * spectral))
    rows = float(torch.linalg.vector_norm(last.abs().sum(dim=1)))
    wide = min(rows, math.sqrt(last.shape[1]) * spectral)
    return NetworkNorm(norm, prefix, last, round_up(prefix * wide))
