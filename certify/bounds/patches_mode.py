"""Cut the part out of a network that some numbers of a convolution depend on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.certify.bounds.linear_bounds import Surroundings
from robustcl.certify.graph import Network, Step
from robustcl.certify.ops.affine import Affine
from robustcl.certify.ops.enclosures import Region
from robustcl.certify.ops.operation import Operation
from robustcl.certify.ops.patches import Field
from robustcl.certify.ops.scalar_function import ScalarFunction
from robustcl.certify.rounding import length, up
from robustcl.core.choices import CERTIFIED_NORMS


@dataclass(frozen=True, eq=False)
class Patch:
    """Name pixels of a network's last step.

    Args:
        image: (N,) which of the B images each lies in.
        row: (N,).
        column: (N,).
    """

    image: Tensor
    row: Tensor
    column: Tensor


@dataclass(frozen=True, eq=False)
class _Part:
    # What is cut out so far.
    steps: list[Step] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    center: list[Region] = field(default_factory=list)

    def add(self, step: Step, region: Region, center: Region) -> int:
        self.steps.append(step)
        self.regions.append(region)
        self.center.append(center)
        return len(self.steps) - 1


def on_patches(network: Network, fields: Mapping[int, Field]) -> dict[int, Operation]:
    """Return what operations do on patches of the size that one pixel of the last step needs.

    Args:
        network: The steps.
        fields: From `receptive_fields`.

    Returns:
        Operations without padding, by the positions of steps.
    """
    steps = network.steps
    return {place: steps[place].operation.on_patches(own.size) for place, own in fields.items()}


def in_patches(
    around: Surroundings,
    fields: Mapping[int, Field],
    operations: Mapping[int, Operation],
    pixels: Patch,
    images: Tensor,
) -> tuple[Surroundings, Tensor]:
    """Cut out what some pixels of the last step depend on, a patch of every step for each pixel.

    Where zero padding is, patches hold any values; a step before each operation that reads padding
    sets them to 0, so that they never count.

    Args:
        around: The network and its regions, without slopes or signs that were chosen.
        fields: From `receptive_fields`.
        operations: From `on_patches`.
        pixels: N pixels of the last step.
        images: (B, C, H, W).

    Returns:
        The network on N patches, whose last step has the shape (C, 1, 1), and the patches of the
        images.
    """
    network = around.network
    read_by = {
        source: step.operation.function
        for step in network.steps
        if step.operation.function is not None
        for source in step.sources
    }
    part, made = _Part(), {}
    for position in sorted(fields):
        step, own = network.steps[position], fields[position]
        wanted = step.operation.reads(own) or own
        is_padded = step.operation.patch_padding != (0, 0)
        read = [
            _opened(part, made[s], fields[s], wanted, network.steps[s], pixels)
            if is_padded or wanted != fields[s]
            else made[s]
            for s in step.sources
        ]
        region = _patch(around.regions[position], own, pixels)
        center = region
        function = read_by.get(position)
        if function is not None:
            center = _patch(around.center[position], own, pixels)
            region = _reached(region, center, function)
        cut = Step(step.place, operations[position], tuple(read), (step.shape[0], *own.size))
        made[position] = part.add(cut, region, center)
    inside = Network(tuple(part.steps), network.device, network.dtype)
    return Surroundings(inside, part.center, part.regions, {}), _gathered(images, fields[0], pixels)


def _opened(
    part: _Part, position: int, held: Field, wanted: Field, source: Step, pixels: Patch
) -> int:
    # The patch that an operation wants, from the one held: smaller, and 0 outside of the image.
    rows, columns = _places(wanted, pixels)
    inside = _within(rows, source.shape[1])[:, :, None] & _within(columns, source.shape[2])[:, None]
    if wanted == held and bool(inside.all()):
        return position
    top, left = (w - h for w, h in zip(wanted.start, held.start, strict=True))
    tall, wide = wanted.size
    below, right = held.size[0] - top - tall, held.size[1] - left - wide
    step, region, center = part.steps[position], part.regions[position], part.center[position]
    mask = inside[:, None].to(region.low.dtype)

    def cut(values: Tensor) -> Tensor:
        return values[:, :, top : top + tall, left : left + wide] * mask

    def pull(slopes: Tensor) -> Tensor:
        kept = slopes.unflatten(0, (len(mask), -1)) * mask[:, None]
        return functional.pad(kept.flatten(0, 1), (left, right, top, below))

    def make(dtype: torch.dtype) -> Affine:
        one = torch.ones((), dtype=dtype, device=mask.device)
        norms = dict.fromkeys(CERTIFIED_NORMS, 1.0)
        return Affine(cut, cut, pull, pull, None, norms, one, 1.0, 0, dtype, make)

    smaller, middle = (Region(cut(r.low), cut(r.high), r.reach) for r in (region, center))
    shape = (source.shape[0], tall, wide)
    return part.add(Step(step.place, make(mask.dtype), (position,), shape), smaller, middle)


def _reached(region: Region, center: Region, function: ScalarFunction) -> Region:
    # The reach of a patch is at most its intervals' width. Before kinks that is what counts: to
    # couple offsets of so few numbers by less gained nothing where it was tried.
    width = torch.maximum(region.high - center.low, center.high - region.low).clamp_min(0.0)
    reach = length(up(width))
    if not function.is_piecewise_linear:
        reach = torch.minimum(region.reach, reach)
    return Region(region.low, region.high, reach)


def _patch(region: Region, own: Field, pixels: Patch) -> Region:
    low, high = (_gathered(values, own, pixels) for values in (region.low, region.high))
    return Region(low, high, region.reach[pixels.image])


def _gathered(values: Tensor, own: Field, pixels: Patch) -> Tensor:
    # (N, C, h, w) around the pixels, 0 outside of the image.
    height, width = values.shape[2:]
    rows, columns = _places(own, pixels)
    lies = _within(rows, height)[:, :, None] & _within(columns, width)[:, None]
    places = (pixels.image[:, None, None] * height + rows[:, :, None]) * width + columns[:, None]
    # Numbers of one pixel side by side, and a pixel of zeros for all that lies outside.
    table = values.movedim(1, -1).reshape(-1, values.shape[1])
    table = torch.cat([table, table.new_zeros(1, values.shape[1])])
    places = torch.where(lies, places, len(table) - 1)
    found = table.index_select(0, places.flatten()).view(*places.shape, -1)
    return found.movedim(-1, 1).contiguous()


def _places(own: Field, pixels: Patch) -> tuple[Tensor, Tensor]:
    found = []
    for axis, place in enumerate((pixels.row, pixels.column)):
        offsets = torch.arange(own.size[axis], device=place.device) + own.start[axis]
        found.append(own.stride[axis] * place[:, None] + offsets)
    return found[0], found[1]


def _within(places: Tensor, count: int) -> Tensor:
    return (places >= 0) & (places < count)
