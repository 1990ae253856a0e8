"""Move numbers: views, permutations, slices, copies, padding."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robustcl.certify.ops.affine import Affine, raised_rows, reshaping
from robustcl.certify.ops.operation import Operation, Shape
from robustcl.certify.ops.registry import Call, Value, recognises
from robustcl.certify.rounding import round_up
from robustcl.core.choices import CertifiedNorm

# Operations of torch that give every number of their output a number of their input, and the
# arguments that say which.
MOVES = {
    "alias.default": "",
    "clone.default": "memory_format",
    "contiguous.default": "memory_format",
    "detach.default": "",
    "dropout.default": "input p train",
    "feature_dropout.default": "input p train",
    "lift_fresh_copy.default": "",
    "view.default": "size",
    "reshape.default": "shape",
    "_unsafe_view.default": "size",
    "flatten.using_ints": "start_dim end_dim",
    "unflatten.int": "dim sizes",
    "squeeze.default": "",
    "squeeze.dim": "dim",
    "squeeze.dims": "dim",
    "unsqueeze.default": "dim",
    "permute.default": "dims",
    "transpose.int": "dim0 dim1",
    "movedim.int": "source destination",
    "movedim.intlist": "source destination",
    "swapaxes.default": "axis0 axis1",
    "select.int": "dim index",
    "slice.Tensor": "dim start end step",
    "narrow.default": "dim start length",
    "index_select.default": "dim index",
    "index.Tensor": "indices",
    "gather.default": "dim index",
    "unbind.int": "dim",
    "chunk.default": "chunks dim",
    "split.Tensor": "split_size dim",
    "split_with_sizes.default": "split_sizes dim",
    "tensor_split.sections": "sections dim",
    "flip.default": "dims",
    "roll.default": "shifts dims",
    "rot90.default": "k dims",
    "expand.default": "size implicit",
    "expand_as.default": "other",
    "repeat.default": "repeats",
    "repeat_interleave.self_int": "repeats dim output_size",
    "tile.default": "dims",
    "pixel_shuffle.default": "upscale_factor",
    "pixel_unshuffle.default": "downscale_factor",
    "channel_shuffle.default": "groups",
    "upsample_nearest2d.vec": "input output_size scale_factors",
    "upsample_nearest2d.default": "output_size scales_h scales_w",
    "im2col.default": "kernel_size dilation padding stride",
    "diagonal.default": "offset dim1 dim2",
    "t.default": "",
    "numpy_T.default": "",
    "tril.default": "diagonal",
    "triu.default": "diagonal",
}


def index_map(indices: Tensor, input_shape: Shape) -> Affine:
    """Describe what gives every number of its output one of its input, or 0.

    Args:
        indices: (*out) int64, positions in the flat input; -1 for 0.
        input_shape: Without the batch.

    Returns:
        The operation. Its L2 norm is the root of how often one number is given at most.
    """
    count, output_shape, flat = math.prod(input_shape), tuple(indices.shape), indices.flatten()
    kept = flat >= 0
    copies = torch.bincount(flat[kept], minlength=count)
    most = int(copies.max()) if len(copies) else 0
    if flat.numel() == count and torch.equal(flat, torch.arange(count, device=flat.device)):
        return reshaping(input_shape, output_shape)
    root = 1.0 if most <= 1 else round_up(math.sqrt(most))
    norms: dict[CertifiedNorm, float] = {"l2": root, "linf": 1.0}
    safe, is_whole = flat.clamp_min(0), bool(kept.all())

    def there(x: Tensor) -> Tensor:
        found = x.flatten(1).index_select(1, safe)
        return (found if is_whole else found * kept.to(found)).view(len(x), *output_shape)

    def back(g: Tensor) -> Tensor:
        given = g.flatten(1) if is_whole else g.flatten(1) * kept.to(g)
        return given.new_zeros(len(g), count).index_add_(1, safe, given).view(len(g), *input_shape)

    def make(dtype: torch.dtype) -> Affine:
        return Affine(
            apply=there,
            absolute=there,
            transpose=back,
            absolute_transpose=back,
            offset=None,
            norms=norms,
            rows=raised_rows(torch.ones((), dtype=torch.float64, device=flat.device), dtype),
            magnitude=root,
            terms=0 if most <= 1 else most,
            dtype=dtype,
            remake=make,
        )

    return make(torch.float64)


def moved(call: Call, function: Callable[[Tensor], object], source: Value) -> list[Value]:
    """Find out where a function moves the numbers of its input, by moving their positions.

    Args:
        call: The call.
        function: (batch, *source.shape) to one tensor or several; what it does to numbers does not
            depend on them.
        source: What it is applied to.

    Returns:
        What it gives.

    Raises:
        UnsupportedError: When it does not keep images apart.
    """
    count, batch = math.prod(source.shape), call.steps.batch
    places = torch.arange(1, batch * count + 1, dtype=torch.float64, device=call.steps.device)
    found = function(places.view(batch, *source.shape))
    outputs = [found] if isinstance(found, Tensor) else found
    if not isinstance(outputs, Sequence):
        raise call.refusal(f"gives a {type(outputs).__name__}")
    made: list[Value] = []
    for output in outputs:
        if output.shape[:1] != (batch,):
            raise call.mixing()
        positions = output.long() - 1
        own = torch.arange(batch, device=positions.device).view(-1, *[1] * (output.ndim - 1))
        is_padding = positions < 0
        local = torch.where(is_padding, -1, positions - own * count)
        inside = is_padding | ((local >= 0) & (local < count))
        if not bool(inside.all()) or not bool((local == local[:1]).all()):
            raise call.mixing()
        made.append(_made(call, local[0], source))
    return made


def _made(call: Call, indices: Tensor, source: Value) -> Value:
    shape, count = tuple(indices.shape), math.prod(source.shape)
    flat = indices.flatten()
    is_same = flat.numel() == count and torch.equal(flat, torch.arange(count, device=flat.device))
    if is_same and shape == source.shape:
        return source
    return call.emit(index_map(indices, source.shape), source, shape=shape)


def _register() -> None:
    for name, reads in MOVES.items():
        recognises(name, reads=f"self {reads}")(_move)


def _move(call: Call) -> Value | Sequence[Value]:
    if len(call.inputs) != 1:
        raise call.refusal("with an argument that is computed from the image")
    if "dropout" in call.name and call.arguments["train"] is not False:
        raise call.refusal("is active outside of training")
    (source,) = call.inputs
    first = next(name for name, value in call.arguments.items() if value is source)
    rest = {name: value for name, value in call.arguments.items() if name != first}

    def function(positions: Tensor) -> object:
        return call.function(**{first: positions}, **rest)

    values = moved(call, function, source)
    return values[0] if len(values) == 1 and len(call.shapes) == 1 else values


_register()


@recognises("pad.default", reads="self pad mode value")
def _pad(call: Call) -> Value:
    fill = 0.0 if call.arguments["value"] is None else call.number("value")
    mode, sides = str(call.arguments["mode"]), call.wholes("pad")
    if mode == "constant" and fill != 0.0:
        raise call.refusal(f"with the value {fill:g}")
    (source,) = call.inputs

    def function(positions: Tensor) -> Tensor:
        return torch.nn.functional.pad(positions, sides, mode=mode)

    padded = Padded(call, function, source, mode, tuple(sides))
    return Value(call.shape, foldable=padded, source=source, place=call.place)


class Padded:
    """Padding that a convolution may take over.

    Args:
        call: The call.
        function: What it does.
        source: What it pads.
        mode: As in `torch.nn.functional.pad`.
        sides: Likewise, the last axis first.
    """

    def __init__(
        self,
        call: Call,
        function: Callable[[Tensor], Tensor],
        source: Value,
        mode: str,
        sides: tuple[int, ...],
    ) -> None:
        self.mode, self.sides = mode, sides
        count, batch = math.prod(source.shape), call.steps.batch
        places = torch.arange(1, batch * count + 1, dtype=torch.float64, device=call.steps.device)
        found = function(places.view(batch, *source.shape)).long() - 1
        if found.shape[:1] != (batch,):
            raise call.mixing()
        self._indices, self._shape = found[0], source.shape

    def operation(self) -> Operation:
        """Return the padding as an operation."""
        return index_map(self._indices, self._shape)

    def scaled(self, factor: Tensor, offset: Tensor, offset_size: Tensor) -> None:
        """Fold nothing into padding."""
        del factor, offset, offset_size

    def rotated(self) -> None:
        """Fold nothing into padding."""
