"""Export a module as a functional graph of calls, and refuse what an export freezes in silence."""

import io
import logging
import operator
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram

from robustcl.core.errors import UnsupportedError
from robustcl.core.memory import is_out_of_memory
from robustcl.core.modules import exact_copy

BATCH = 3  # images of the program that is lowered; the other one has a single image
SIZES = ("size", "shape", "sizes", "repeats")  # arguments that may count images
OF_SIZES = ("view", "reshape", "expand", "_unsafe_view", "unflatten", "repeat", "flatten")
_EXPORTING = threading.RLock()


@dataclass(frozen=True, eq=False)
class Program:
    """Hold an exported module.

    Args:
        graph: Calls in an order to run them, none of which overwrites a value.
        inputs: Tensors that the module holds, by the names of their placeholders.
        image: The placeholder of the images.
        output: The node of the only output.
    """

    graph: fx.Graph
    inputs: Mapping[str, Tensor]
    image: fx.Node
    output: fx.Node


def exported(
    module: nn.Module, images: Tensor, *, is_known: Callable[[OpOverload], bool] = lambda _: False
) -> Program:
    """Export a module twice, for one image and for `BATCH`, and require that both do the same.

    Args:
        module: In eval mode; left as it was.
        images: (BATCH, ...) as it takes.
        is_known: Whether an operation can be read as it is. Where all can and none overwrites
            anything, the program is taken as it is written down, which saves most of the time.

    Returns:
        The program for `BATCH` images.

    Raises:
        UnsupportedError: When it cannot be exported, does not do the same for any number of images,
            writes to itself, draws random numbers, or returns anything but one tensor.
    """
    _begin_autograd()
    with _EXPORTING, _unheard(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            one = torch.export.export(exact_copy(module), (images[:1].clone(),), strict=False)
            many = torch.export.export(exact_copy(module), (images.clone(),), strict=False)
            _check_alike(one.graph, many.graph)
            whole = many if _is_plain(many, is_known) else many.run_decompositions({})
        except UnsupportedError:
            raise
        except Exception as error:  # the network's own code runs
            if is_out_of_memory(error):
                raise
            words = str(error).strip().split("\n")[0] or type(error).__name__
            raise UnsupportedError(
                f"the network's code looks at the numbers it computes, or does something else that "
                f"torch.export cannot write down ({words})"
            ) from error
    _check_signature(whole)
    return _program(whole)


@contextmanager
def _unheard() -> Iterator[None]:
    # What cannot be exported is refused in one line; torch would print whole graphs besides.
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


@cache
def _begin_autograd() -> None:
    # Exporting loads devices for which the first backward pass starts threads, and after those
    # forked children take no gradients; a pass before that starts none.
    with torch.inference_mode(False), torch.enable_grad():
        torch.zeros(1, requires_grad=True).sum().backward()


def _is_plain(program: ExportedProgram, is_known: Callable[[OpOverload], bool]) -> bool:
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    return all(
        target is operator.getitem
        or (isinstance(target, OpOverload) and not target._schema.is_mutable and is_known(target))
        for target in calls
    )


def _check_signature(program: ExportedProgram) -> None:
    signature = program.graph_signature
    changed = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if changed:
        raise UnsupportedError(
            f"the network changes {changed[0]!r} when it is called, so that the next call may "
            "differ; remove that"
        )
    if len(signature.user_outputs) != 1 or len(signature.user_inputs) != 1:
        raise UnsupportedError("the network's output is not one tensor")


def _program(program: ExportedProgram) -> Program:
    signature, held = program.graph_signature, {}
    for name, target in (
        *signature.inputs_to_parameters.items(),
        *signature.inputs_to_buffers.items(),
    ):
        found = program.state_dict.get(target, program.constants.get(target))
        if not isinstance(found, Tensor):
            raise UnsupportedError(f"{target!r} is no tensor")
        held[name] = found.detach()
    for name, target in signature.inputs_to_lifted_tensor_constants.items():
        found = program.constants[target]
        if not isinstance(found, Tensor):
            raise UnsupportedError(f"{target!r} is no tensor")
        held[name] = found.detach()
    nodes = list(program.graph.nodes)
    image = next(n for n in nodes if n.op == "placeholder" and n.name == signature.user_inputs[0])
    output = next(n for n in nodes if n.op == "output").args[0][0]
    if not isinstance(output, fx.Node):
        raise UnsupportedError("the network's output does not depend on the image")
    return Program(program.graph, held, image, output)


def _check_alike(one: fx.Graph, many: fx.Graph) -> None:
    # Both graphs may differ in nothing but the number of images in sizes.
    names: dict[fx.Node, fx.Node] = {}
    first, second = list(one.nodes), list(many.nodes)
    is_alike = len(first) == len(second)
    for own, other in zip(first, second, strict=False):
        names[own] = other
        is_alike = is_alike and own.op == other.op and own.target == other.target
        is_alike = is_alike and _same_arguments(own, other, names)
        if not is_alike:
            raise UnsupportedError(
                f"the network does something else for {BATCH} images than for one (at "
                f"{place_of(other) or other.name!r})"
            )
    if not is_alike:
        raise UnsupportedError(f"the network does something else for {BATCH} images than for one")


def _same_arguments(own: fx.Node, other: fx.Node, names: Mapping[fx.Node, fx.Node]) -> bool:
    may_count = isinstance(own.target, OpOverload) and own.target._opname in OF_SIZES
    pairs = [(own.args, other.args), (own.kwargs, other.kwargs)]
    return all(_same(a, b, names, may_count) for a, b in pairs)


def _same(own: object, other: object, names: Mapping[fx.Node, fx.Node], may_count: bool) -> bool:
    if isinstance(own, fx.Node):
        return names.get(own) is other
    if isinstance(own, Mapping) and isinstance(other, Mapping):
        return own.keys() == other.keys() and all(
            _same(own[key], other[key], names, may_count) for key in own
        )
    if isinstance(own, Sequence) and not isinstance(own, str):
        return (
            isinstance(other, Sequence)
            and len(own) == len(other)
            and all(_same(a, b, names, may_count) for a, b in zip(own, other, strict=True))
        )
    if may_count and isinstance(own, int) and isinstance(other, int):
        return other in (own, own * BATCH)
    return type(own) is type(other) and (own == other or (own != own and other != other))


def place_of(node: fx.Node) -> str:
    """Name the module that a call belongs to.

    Args:
        node: The call.

    Returns:
        Its path, such as 'layer2.0.conv1'; '' where it is the whole.
    """
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(path) for path, _ in stack.values()]
    return paths[-1] if paths else ""
