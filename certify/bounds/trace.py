"""Trace an encoder into the steps that bounds are computed on."""

import copy
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from certify.bounds.lower import Operation, Shape
from certify.bounds.lower_node import BATCH, VIEWS, Context, folds, lower_node, node_name, sources
from certify.bounds.operations.affine import Affine, scaling
from certify.bounds.operations.joining import Concatenation, Constant, Image, Sum
from robustcl.classifier import Encoder
from robustcl.encoders.max_min import MaxMin
from robustcl.errors import UnsupportedError

CURE = "smoothing:form=vote certifies any network, and first_order estimates"
ACTIVATIONS = (functional.relu, functional.silu, functional.leaky_relu, functional.elu)


@dataclass(frozen=True, eq=False)
class Step:
    """Hold one operation of a network.

    Args:
        place: Its name in the network, for messages.
        operation: What it does.
        sources: Positions of the steps it reads, each as often as it is read.
        shape: Of one output, without the batch.
    """

    place: str
    operation: Operation
    sources: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True, eq=False)
class Network:
    """Hold the steps of h from the image in pixel units, in float64 and in an order to run them.

    Args:
        steps: The first is the image, the last gives h(x), (d,).
        device: Where the weights are.
        dtype: The type that values are computed in; norms are always from float64.
    """

    steps: tuple[Step, ...]
    device: torch.device
    dtype: torch.dtype = torch.float64

    @property
    def size(self) -> int:
        """Count the numbers inside the network, over all steps."""
        return sum(math.prod(step.shape) for step in self.steps)

    def remade(self, dtype: torch.dtype) -> "Network":
        """Return the same network in another type.

        Args:
            dtype: torch.float64 or torch.float32.

        Returns:
            The network; what rounding its weights changes is counted as rounding everywhere.
        """
        made: list[Step] = []
        for step in self.steps:
            operation = step.operation
            if isinstance(operation, Affine):
                operation = operation.remake(dtype)
            elif isinstance(operation, Constant):
                operation = Constant(operation.value.to(dtype))
            made.append(replace(step, operation=operation))
        return Network(tuple(made), self.device, dtype)


def trace(encoder: Encoder, *, drops_normalization: bool = False) -> Network:
    """Write an encoder in eval mode as steps in float64, by torch.fx.

    A BatchNorm that alone follows a convolution or a linear layer is folded into it; the input
    normalization comes first. Refused, by name and place: a layer without a known norm, a network
    that cannot be traced, one that mixes the images of a batch, one that repeats a value along new
    axes, one that overwrites a value it uses again, and weights that are not finite.

    Args:
        encoder: The encoder; left as it was. One that draws random numbers in eval mode is not
            recognized here.
        drops_normalization: Whether a final F.normalize is left out, as a classifier that projects
            to the sphere itself allows: a positive factor changes nothing.

    Returns:
        The steps.

    Raises:
        UnsupportedError: When the network's output is not one vector per image.
    """
    for name, part in encoder.backbone.named_modules():
        if part._forward_hooks or part._forward_pre_hooks:
            raise UnsupportedError(f"layer {name!r} has hooks, which tracing cannot see; {CURE}")
    _check_finite(encoder)
    double = copy.deepcopy(encoder).double().eval().requires_grad_(False)
    with torch.no_grad():
        graph_module, values, again = _run(double)
        steps, made = _first_steps(double), {}
        modules = dict(graph_module.named_modules())
        end = next(node for node in graph_module.graph.nodes if node.op == "output").args[0]
        dropped = end if drops_normalization and _normalizes(end) else None
        end = end if dropped is None else sources(dropped)[0]
        for node in graph_module.graph.nodes:
            if node.op == "placeholder":
                made[node] = len(steps) - 1
            elif node.op != "output" and node is not dropped and _moves(node, made):
                _add(node, Context(modules, values, steps, made))
    if not isinstance(end, fx.Node) or end not in made or len(steps[made[end]].shape) != 1:
        raise UnsupportedError(f"the network's output is not one (B, d) tensor; {CURE}")
    _check_repeatable(again)
    return Network(tuple(steps[: made[end] + 1]), encoder.mean.device)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) is MaxMin or super().is_leaf_module(m, module_qualified_name)


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.recorded: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        # A copy, as a later step may overwrite the value.
        self.recorded[n] = result.clone() if isinstance(result, Tensor) else result
        return result


def _check_finite(encoder: Encoder) -> None:
    for name, value in encoder.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UnsupportedError(f"the weight {name!r} is not finite; nothing can be certified")


def _run(encoder: Encoder) -> tuple[fx.GraphModule, dict[fx.Node, Any], list[Any]]:
    try:
        backbone = encoder.backbone
        graph_module = fx.GraphModule(backbone, _Tracer().trace(backbone))
        recorder = _Recorder(graph_module)
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(BATCH, *encoder.image_shape, generator=generator).to(encoder.mean)
        traced = recorder.run(images.clone())
        again = [traced, *(backbone(images.clone()) for _ in range(2))]
    except Exception as error:  # tracing runs the network's own code
        raise UnsupportedError(f"torch.fx cannot trace the network ({error}); {CURE}") from error
    return graph_module, recorder.recorded, again


def _check_repeatable(outputs: list[Any]) -> None:
    for value in outputs[1:]:
        if not torch.allclose(value, outputs[0], rtol=1e-6, atol=1e-9):
            raise UnsupportedError(
                "the network gives other values when it is called again, or what torch.fx sees of "
                f"it is not what it does; does it draw random numbers? {CURE}"
            )


def _first_steps(encoder: Encoder) -> list[Step]:
    factor = 1.0 / encoder.std
    image = Step("image", Image(), (), encoder.image_shape)
    normalization = scaling(factor, -encoder.mean * factor)
    return [image, Step("input normalization", normalization, (0,), encoder.image_shape)]


def _moves(node: fx.Node, made: dict[fx.Node, int]) -> bool:
    # Whether the value depends on the pixels; shapes do not.
    if node.op == "call_method" and node.target in ("size", "dim"):
        return False
    if node.target is getattr and node.args[1] in ("shape", "ndim", "dtype", "device"):
        return False
    return any(source in made for source in sources(node))


def _normalizes(end: Any) -> bool:
    if not isinstance(end, fx.Node) or end.target is not functional.normalize:
        return False
    options = dict(zip(("input", "p", "dim"), end.args, strict=False)) | dict(end.kwargs)
    return bool(options.get("p", 2.0) == 2 and options.get("dim", 1) in (1, -1))


def _add(node: fx.Node, context: Context) -> None:
    place = node.target if isinstance(node.target, str) else node.name
    try:
        _check_meaning(node, context)
        if folds(node, context) is not None:  # counted at the layer that follows
            context.made[node] = context.made[sources(node)[0]]
            return
        operations = lower_node(node, context)
    except UnsupportedError as error:
        raise UnsupportedError(f"{error} (at {place!r} in the network); {CURE}") from error
    if isinstance(operations[0], Concatenation | Sum):
        read = tuple(_position(source, context) for source in sources(node))
    else:
        read = tuple(context.made[s] for s in sources(node) if s in context.made)
    for operation in operations:
        context.steps.append(Step(str(place), operation, read, context.shape(node)))
        read = (len(context.steps) - 1,)
    (context.made[node],) = read


def _position(source: fx.Node, context: Context) -> int:
    if source in context.made:
        return context.made[source]
    value = context.values[source].double()
    if not bool((value == value[:1]).all()):
        raise UnsupportedError("a constant that differs between the images of a batch")
    context.steps.append(Step(source.name, Constant(value[:1]), (), tuple(value.shape[1:])))
    return len(context.steps) - 1


def _check_meaning(node: fx.Node, context: Context) -> None:
    # Refuse what mixes images, and what changes a value that is used again.
    value = context.values[node]
    if not isinstance(value, Tensor) or value.shape[:1] != (BATCH,):
        raise UnsupportedError(
            f"the operation {node_name(node)!r}, which does not keep images apart"
        )
    if not _overwrites(node, context.modules):
        return
    source = sources(node)[0]
    while True:
        if len(source.users) > 1:
            raise UnsupportedError(f"{node_name(node)!r} overwrites a value that is used again")
        is_view = source.op == "call_method" and source.target in VIEWS
        if not (is_view or source.target is torch.flatten):
            return
        source = sources(source)[0]


def _overwrites(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_")
    if node.target in ACTIVATIONS and any(arg is True for arg in node.args):
        return True
    return node.target in (operator.iadd, operator.isub) or node.kwargs.get("inplace") is True
