"""Trace an encoder into the steps that bounds are computed on."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from robustcl.certify.bounds.lower_node import BATCH, Context, folds, lower_node, node_name, sources
from robustcl.certify.bounds.plain_modules import (
    CURE,
    check_plain,
    check_still,
    check_values,
    no_draws,
    state_of,
)
from robustcl.certify.graph import Network, Step
from robustcl.certify.ops.affine import scaling
from robustcl.certify.ops.concatenation import Concatenation
from robustcl.certify.ops.operation import Constant, Image
from robustcl.certify.ops.sum import Sum
from robustcl.classifier import Encoder
from robustcl.core.memory import is_out_of_memory
from robustcl.encoders.max_min import MaxMin
from robustcl.errors import UnsupportedError
from robustcl.exact_copy import exact_copy


def trace(encoder: Encoder, *, drops_normalization: bool = False) -> Network:
    """Write an encoder in eval mode as steps in float64, by torch.fx.

    A BatchNorm that alone follows a convolution or a linear layer is folded into it; the input
    normalization comes first. Refused, by name and place: a layer without a known norm, a network
    that cannot be traced, one that mixes the images of a batch, one that repeats a value along new
    axes, one that overwrites a value it uses again, one that does more than its layers say (see
    `check_plain` and `check_still`), and weights that are not finite.

    Args:
        encoder: The encoder; left as it was.
        drops_normalization: Whether a final F.normalize is left out, as a classifier that projects
            to the sphere itself allows: a positive factor changes nothing.

    Returns:
        The steps.

    Raises:
        UnsupportedError: When the network's output is not one vector per image.
    """
    with _TRACING:
        return _traced(encoder, drops_normalization)


def _traced(encoder: Encoder, drops_normalization: bool) -> Network:
    check_plain(encoder)
    _check_finite(encoder)
    double = exact_copy(encoder)
    check_plain(double, wants_eval=True)
    with torch.inference_mode(False), torch.no_grad():
        graph_module, recorder, again = _run(double)
        steps, made = _first_steps(double), {}
        modules = dict(graph_module.named_modules())
        end = next(node for node in graph_module.graph.nodes if node.op == "output").args[0]
        dropped = end if drops_normalization and _normalizes(end) else None
        end = end if dropped is None else sources(dropped)[0]
        _check_overwritten(graph_module, recorder)
        context = Context(modules, recorder.recorded, steps, made)
        for node in graph_module.graph.nodes:
            if node.op == "placeholder":
                made[node] = len(steps) - 1
            elif node.op != "output" and node is not dropped and _moves(node, made):
                _add(node, context)
    if not isinstance(end, fx.Node) or end not in made or len(steps[made[end]].shape) != 1:
        raise UnsupportedError(f"the network's output is not one (B, d) tensor; {CURE}")
    _check_repeatable(again)
    return Network(tuple(steps[: made[end] + 1]), encoder.mean.device)


_TRACING = threading.RLock()


class _Tracer(fx.Tracer):
    # While it traces, torch.fx leads the calls of all modules in the process through here; what
    # other threads call is none of its business.

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) is MaxMin or super().is_leaf_module(m, module_qualified_name)


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.recorded: dict[fx.Node, Any] = {}
        self.overwritten: list[tuple[fx.Node, fx.Node]] = []  # whose value, by which node
        self._alive: dict[fx.Node, tuple[Tensor, int]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        # All views of a value count its changes together.
        for node, (value, version) in self._alive.items():
            if value._version != version:
                self.overwritten.append((node, n))
                self._alive[node] = value, value._version
        if isinstance(result, Tensor):
            self._alive[n] = result, result._version
        # A copy, as a later step may overwrite the value.
        self.recorded[n] = result.clone() if isinstance(result, Tensor) else result
        return result


def _check_finite(encoder: Encoder) -> None:
    for name, value in encoder.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UnsupportedError(f"the weight {name!r} is not finite; nothing can be certified")


def _run(encoder: Encoder) -> tuple[fx.GraphModule, _Recorder, list[Any]]:
    backbone = encoder.backbone
    before = state_of(backbone)
    try:
        graph_module = fx.GraphModule(backbone, _Tracer().trace(backbone))
        recorder = _Recorder(graph_module)
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(BATCH, *encoder.image_shape, generator=generator).to(encoder.mean)
        traced = recorder.run(images.clone())
        with no_draws():
            again = [traced, *(backbone(images.clone()) for _ in range(2))]
            # Other sizes, for what depends on the number of images.
            again.append(torch.cat([backbone(image[None].clone()) for image in images]))
            again.append(backbone(torch.cat([images, images[:1]]))[:BATCH])
            with torch.enable_grad():
                again.append(backbone(images.clone()).detach())
    except UnsupportedError:
        raise
    except Exception as error:  # tracing runs the network's own code
        if is_out_of_memory(error):
            raise
        raise UnsupportedError(f"torch.fx cannot trace the network ({error}); {CURE}") from error
    check_still(backbone, before)
    check_values(backbone, images)
    return graph_module, recorder, again


def _check_repeatable(outputs: Sequence[Any]) -> None:
    for value in outputs:
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise UnsupportedError(f"the network's output is a {kind}, not one tensor; {CURE}")
    for number, value in enumerate(outputs[1:]):
        if value.shape != outputs[0].shape or not torch.allclose(
            value, outputs[0], rtol=1e-6, atol=1e-9, equal_nan=True
        ):
            when = "when it is called again" if number < 2 else "with another number of images"
            raise UnsupportedError(
                f"the network gives other values {when}, or what torch.fx sees of it is not what "
                f"it does; does it draw random numbers, or mix images? {CURE}"
            )


def _check_overwritten(graph_module: fx.GraphModule, recorder: _Recorder) -> None:
    # A step is described by the value it was given; so nothing may read a value changed since.
    order = {node: number for number, node in enumerate(graph_module.graph.nodes)}
    for node, writer in recorder.overwritten:
        if any(order[user] > order[writer] for user in node.users):
            raise UnsupportedError(
                f"{node_name(writer)!r} overwrites the value of {node_name(node)!r}, which is used "
                f"again; use the form that is not in place, such as inplace=False. {CURE}"
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
    options: dict[str, Any] = dict(zip(("input", "p", "dim", "eps", "out"), end.args, strict=False))
    options |= end.kwargs
    if any(isinstance(options.get(name), fx.Node) for name in ("p", "dim", "eps", "out")):
        return False
    is_plain = options.get("p", 2.0) == 2 and options.get("dim", 1) in (1, -1)
    return bool(is_plain and options.get("eps", 1e-12) >= 0 and options.get("out") is None)


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
    # Refuse what mixes images.
    value = context.values[node]
    if not isinstance(value, Tensor) or value.shape[:1] != (BATCH,):
        raise UnsupportedError(
            f"the operation {node_name(node)!r}, which does not keep images apart"
        )
    if value.dtype != torch.float64:
        raise UnsupportedError(f"the operation {node_name(node)!r}, which gives {value.dtype}")
