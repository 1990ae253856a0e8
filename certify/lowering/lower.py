"""Lower an exported program to the steps that bounds are computed on."""

import importlib
import operator
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from robustcl.certify import ops
from robustcl.certify.graph import Network, Step
from robustcl.certify.lowering.export import BATCH, Program, place_of
from robustcl.certify.ops.max_min import max_min, sorted_pairs
from robustcl.certify.ops.operation import Image
from robustcl.certify.ops.registry import RULES, Call, Steps, Value, operation_name
from robustcl.core.errors import UnsupportedError

IGNORED = ("aten._assert_tensor_metadata.default", "aten._assert_scalar.default")


def lowered(program: Program, *, cure: str, drops_normalization: bool = False) -> Network:
    """Turn the calls of a program into steps.

    Args:
        program: From `exported`.
        cure: What still works, for messages.
        drops_normalization: Whether a final F.normalize is left out, as a classifier that projects
            to the sphere itself allows: a positive factor changes nothing.

    Returns:
        The steps.

    Raises:
        UnsupportedError: With the place of a call that has no rule.
    """
    _load_rules()
    shape = _shapes(program.image)[0]
    values: dict[fx.Node, object] = dict.fromkeys(())
    steps = Steps([Step("image", Image(), (), shape)], _device(program), BATCH)
    end = _normalized(program.output) if drops_normalization else None
    end = program.output if end is None else end
    skipped = _skipped(program.graph)
    for node in program.graph.nodes:
        if node is program.image:
            values[node] = Value(shape, 0)
        elif node.op == "placeholder":
            values[node] = program.inputs[node.name]
        elif node.op == "call_function" and node not in skipped:
            values[node] = _result(node, values, steps, cure)
        if node is end:
            break
    value = values.get(end)
    if not isinstance(value, Value):
        raise UnsupportedError(f"the network's output does not depend on the image; {cure}")
    position = steps.position(value)
    return Network(tuple(steps.steps[: position + 1]), steps.device)


def is_known(operation: OpOverload) -> bool:
    """Tell whether an operation has a rule, or none is needed.

    Args:
        operation: Of an exported program.

    Returns:
        Whether it can be lowered, its arguments permitting.
    """
    _load_rules()
    return str(operation) in RULES or str(operation) in IGNORED


@cache
def _load_rules() -> None:
    for file in pkgutil.iter_modules(ops.__path__):
        importlib.import_module(f"{ops.__name__}.{file.name}")


def _device(program: Program) -> torch.device:
    value = program.image.meta["val"]
    return value.device


def _shapes(node: fx.Node) -> list[tuple[int, ...]]:
    found = node.meta.get("val")
    outputs = found if isinstance(found, list | tuple) else [found]
    return [tuple(int(n) for n in o.shape[1:]) for o in outputs if isinstance(o, Tensor)]


def _skipped(graph: fx.Graph) -> set[fx.Node]:
    found: set[fx.Node] = set()
    for node in graph.nodes:
        pairs = sorted_pairs(node)
        if pairs is not None:
            found |= pairs[1]
    return found


def _result(node: fx.Node, values: Mapping[fx.Node, object], steps: Steps, cure: str) -> object:
    place = place_of(node).removeprefix("backbone.") or node.name
    try:
        return _called(node, values, steps, place)
    except UnsupportedError as error:
        raise UnsupportedError(f"{error} (at {place!r} in the network); {cure}") from error


def _called(node: fx.Node, values: Mapping[fx.Node, object], steps: Steps, place: str) -> object:
    if str(node.target) in IGNORED:
        return None
    if node.target is operator.getitem:
        group, index = node.args
        assert isinstance(group, fx.Node)
        return values[group][index]  # pyright: ignore[reportIndexIssue]
    pairs = sorted_pairs(node)
    read = list(node.all_input_nodes) if pairs is None else [pairs[0]]
    moving = [one for one in read if _moves(values[one])]
    if not isinstance(node.target, OpOverload):
        raise UnsupportedError(f"the operation {node.name!r}")
    if torch.Tag.nondeterministic_seeded in node.target.tags and _draws(node):
        raise UnsupportedError("random numbers are drawn in eval mode, perhaps not at every call")
    if not moving:
        return _constant(node, values)
    sole = len(moving[0].users) == 1
    own = str(node.target)
    if pairs is not None:
        source = values[pairs[0]]
        assert isinstance(source, Value)
        call = Call(own, place, {}, node.target, _shapes(node), sole, steps, [source])
        _check_kept_apart(node, call)
        return max_min(call, source)
    arguments = _arguments(node, values, node.target)
    inputs = [v for v in _flat(arguments.values()) if isinstance(v, Value)]
    call = Call(own, place, arguments, node.target, _shapes(node), sole, steps, inputs)
    _check_kept_apart(node, call)
    rule = RULES.get(own)
    if rule is None:
        raise UnsupportedError(f"the operation {operation_name(own)!r} has no rule")
    _check_read(node.target, arguments, rule.reads, call)
    return rule.function(call)


def _draws(node: fx.Node) -> bool:
    # Dropout is tagged as random, and is not where it is told that it does not train.
    return "dropout" not in str(node.target) or True in node.args


def _moves(value: object) -> bool:
    if isinstance(value, Value):
        return True
    return isinstance(value, list | tuple) and any(_moves(part) for part in value)


def _flat(values: object) -> list[object]:
    if isinstance(values, str | Tensor | Value) or not isinstance(values, Sequence):
        if isinstance(values, Mapping):
            return _flat(list(values.values()))
        if not isinstance(values, str | Tensor | Value) and hasattr(values, "__iter__"):
            return [one for value in values for one in _flat(value)]  # pyright: ignore[reportGeneralTypeIssues]
        return [values]
    return [one for value in values for one in _flat(value)]


def _arguments(
    node: fx.Node, values: Mapping[fx.Node, object], function: OpOverload
) -> dict[str, object]:
    found: dict[str, object] = {}
    for number, argument in enumerate(function._schema.arguments):
        if number < len(node.args) and not argument.kwarg_only:
            given: object = node.args[number]
        elif argument.name in node.kwargs:
            given = node.kwargs[argument.name]
        else:
            given = argument.default_value if argument.has_default_value() else None
        found[argument.name] = fx.node.map_arg(given, lambda one: values[one])  # pyright: ignore[reportArgumentType]
    return found


def _check_read(
    function: OpOverload, arguments: Mapping[str, object], reads: frozenset[str], call: Call
) -> None:
    for argument in function._schema.arguments:
        given = arguments[argument.name]
        default = argument.default_value if argument.has_default_value() else None
        if argument.name not in reads and given is not None and given != default:
            raise call.refusal(f"with the argument {argument.name}")


def _constant(node: fx.Node, values: Mapping[fx.Node, object]) -> object:
    arguments = fx.node.map_arg(node.args, lambda one: values[one])  # pyright: ignore[reportArgumentType]
    named = fx.node.map_arg(dict(node.kwargs), lambda one: values[one])  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        return node.target(*arguments, **named)  # pyright: ignore[reportCallIssue]


def _check_kept_apart(node: fx.Node, call: Call) -> None:
    found = node.meta.get("val")
    for output in found if isinstance(found, list | tuple) else [found]:
        if not isinstance(output, Tensor):
            raise call.refusal("gives something else than tensors")
        if output.numel() == 0 and "batch_norm" in call.name:
            continue
        if output.shape[:1] != (BATCH,):
            raise call.mixing()
        if output.dtype != torch.float64:
            raise call.refusal(f"gives {output.dtype}")


def _normalized(end: fx.Node) -> fx.Node | None:
    # What F.normalize(h) is of: h / max(|h|, eps), with a positive factor per image.
    if str(end.target) != "aten.div.Tensor" or len(end.args) != 2:
        return None
    source, wide = end.args
    norm = wide
    for names in (("aten.expand.default", "aten.expand_as.default"), ("aten.clamp_min.default",)):
        if not isinstance(norm, fx.Node) or str(norm.target) not in names:
            return None
        if "clamp" in names[0] and not (
            isinstance(norm.args[1], int | float) and norm.args[1] >= 0
        ):
            return None
        norm = norm.args[0]
    if not isinstance(norm, fx.Node) or str(norm.target) != "aten.linalg_vector_norm.default":
        return None
    order = norm.args[1] if len(norm.args) > 1 else 2
    dims = norm.args[2] if len(norm.args) > 2 else None
    is_plain = order == 2 and dims in ([1], [-1]) and norm.args[3:] == (True,)
    is_plain = is_plain and not norm.kwargs and norm.args[0] is source
    return source if is_plain and isinstance(source, fx.Node) else None
