"""Recognise MaxMin, which sorts pairs of channels."""

from torch import Tensor, fx

from robustcl.certify.ops import scalar_function as functions
from robustcl.certify.ops.elementwise import Elementwise
from robustcl.certify.ops.pairing import pairing, unpairing
from robustcl.certify.ops.registry import Call, Value

SHUFFLES = ("aten.view.default", "aten.reshape.default", "aten.flatten.using_ints")


def sorted_pairs(node: fx.Node) -> tuple[fx.Node, set[fx.Node]] | None:
    """Recognise the last call of MaxMin by what leads to it.

    Args:
        node: Any call.

    Returns:
        What is sorted, and the calls in between; None where it is something else. Whether the
        shapes are those of pairs of channels is for `max_min` to check.
    """
    if str(node.target) not in SHUFFLES or not isinstance(stacked := node.args[0], fx.Node):
        return None
    if str(stacked.target) != "aten.stack.default" or stacked.args[1:] not in ((2,),):
        return None
    pair = stacked.args[0]
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return None
    largest, smallest = pair
    if not isinstance(largest, fx.Node) or not isinstance(smallest, fx.Node):
        return None
    names = str(largest.target), str(smallest.target)
    if names != ("aten.maximum.default", "aten.minimum.default") or largest.args != smallest.args:
        return None
    items = [item for item in largest.args if isinstance(item, fx.Node)]
    if len(items) != 2 or [item.args[1:] for item in items] != [(0,), (1,)]:
        return None
    apart = items[0].args[0]
    if not isinstance(apart, fx.Node) or items[1].args[0] is not apart:
        return None
    if str(apart.target) != "aten.unbind.int" or apart.args[1:] != (2,):
        return None
    split = apart.args[0]
    if not isinstance(split, fx.Node) or not isinstance(source := split.args[0], fx.Node):
        return None
    inner = {stacked, largest, smallest, *items, apart, split}
    if any(set(one.users) - inner - {node} for one in inner):
        return None
    shapes = [_shape(one) for one in (source, split, node)]
    if None in shapes or shapes[0] != shapes[2] or shapes[0] is None:
        return None
    batch, channels, *rest = shapes[0]
    return (source, inner) if shapes[1] == (batch, channels // 2, 2, *rest) else None


def _shape(node: fx.Node) -> tuple[int, ...] | None:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else None


def max_min(call: Call, source: Value) -> Value:
    """Describe MaxMin as a rotation of every pair, |z| on the differences, and its inverse.

    Args:
        call: The last call.
        source: What is sorted. A layer that is not a step yet gets the rotation folded in: the
            intervals of the differences are then as tight as those of single units.

    Returns:
        The sorted values.
    """
    shape = source.shape
    second = Elementwise(functions.second_of_pairs(shape))
    folded = None
    if source.position is None and source.foldable is not None and call.is_sole_reader:
        folded = source.foldable.rotated()
    if folded is None or source.source is None:
        turned = call.emit(pairing(shape), source, shape=shape)
        back = unpairing(shape)
    else:
        plain, rotated = folded
        turned = call.emit(rotated, source.source, shape=shape)
        back = unpairing(shape, inner=rotated.norms["linf"], outer=plain.norms["linf"])
    return call.emit(back, call.emit(second, turned, shape=shape), shape=shape)
