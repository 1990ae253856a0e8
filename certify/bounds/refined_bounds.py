"""Tighten the regions of small layers by linear bounds of every unit."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from robustcl.certify.bounds.layers import numbers_seen, receptive_fields
from robustcl.certify.bounds.linear_bounds import Surroundings, lower_bounds
from robustcl.certify.bounds.patches_mode import Patch, in_patches, on_patches
from robustcl.certify.bounds.preactivation_bounds import ball_bounds
from robustcl.certify.graph import Network
from robustcl.certify.ops.enclosures import Region
from robustcl.certify.ops.scalar_function import ScalarFunction
from robustcl.certify.rounding import down, up
from robustcl.core.choices import CertifiedNorm
from robustcl.core.errors import InputError

LARGEST = 128  # units of a layer for which every unit's own bound is worth its cost
AFFORDABLE = 2**22  # coefficients of the bounds of all units up to which larger layers are too
CURVED = 4  # by so much more each costs before activations without kinks
PATCHES = 2**18  # numbers of patches at once, that caches hold them
_NUMBERS = 2**24  # coefficients held at once: 128 MiB of float64


def refined_bounds(
    network: Network,
    images: Tensor,
    radius: Tensor,
    center: Sequence[Region],
    *,
    norm: CertifiedNorm,
    largest: int | None = None,
) -> list[Region]:
    """Enclose the values over balls, affordable layers by a backward pass for each unit.

    Where a step with at most `largest` numbers is read by an activation, each number is bounded
    from both sides by lines through the steps before it, and the tighter bound is kept. The numbers
    of a convolution are bounded from the patches that they depend on. Numbers on whose interval
    every reader is a line are left as they are.

    Args:
        network: The steps.
        images: (B, C, H, W).
        radius: (B,) of the balls, in pixel units.
        center: From `center_regions`.
        norm: 'l2' or 'linf'.
        largest: Numbers of a step up to which it is refined; None for any number where all larger
            than `LARGEST` take at most `AFFORDABLE` coefficients together, else `LARGEST`: a few
            of the layers of a deep network were seen to gain nothing.

    Returns:
        One region per step, within those of `ball_bounds`.

    Reference:
        Zhang et al., CROWN, NeurIPS 2018, algorithm 1: bounds of each layer from those before.
    """
    readers = refinable(network, largest)
    if not readers:
        return ball_bounds(network, images, radius, center, norm=norm)

    def refine(position: int, found: list[Region]) -> Region:
        region = found[position]
        if position not in readers:
            return region
        is_open = _open(readers[position], region)
        if not bool(is_open.any()):
            return region
        around = Surroundings(network.upto(position), center[: position + 1], found, {})
        return _refined(around, is_open, images, radius, norm)

    return ball_bounds(network, images, radius, center, norm=norm, refine=refine)


def check_units(units: int | None) -> None:
    """Refuse a number of units that is none.

    Args:
        units: Numbers of a step up to which it is refined, or None.

    Raises:
        InputError: When it is negative.
    """
    if units is not None and units < 0:
        raise InputError(f"units {units} is below 0; use 0 for none, or {LARGEST}")


def _refined(
    around: Surroundings, is_open: Tensor, images: Tensor, radius: Tensor, norm: CertifiedNorm
) -> Region:
    # The last region of `around`, its open numbers bounded by lines.
    fields = receptive_fields(around.network)
    if fields is None or numbers_seen(around.network, fields) >= around.network.widest:
        return _refined_whole(around, is_open, images, radius, norm)
    region, network = around.regions[-1], around.network
    low, high = region.low.flatten(1).clone(), region.high.flatten(1).clone()
    area, wide = math.prod(region.low.shape[2:]), region.low.shape[3]
    operations = on_patches(network, fields)
    many = max(1, PATCHES // (2 * numbers_seen(network, fields)))
    for image, unit in zip(*(p.split(many) for p in is_open.nonzero(as_tuple=True)), strict=True):
        pixels = Patch(image, unit % area // wide, unit % wide)
        part, patches = in_patches(around, fields, operations, pixels, images)
        rows = torch.nn.functional.one_hot(unit // area, region.low.shape[1]).to(network.dtype)
        both = torch.stack([rows, -rows], dim=1)
        bounds = lower_bounds(part, both, patches, radius[image], norm=norm).to(network.dtype)
        low[image, unit] = torch.maximum(low[image, unit], down(bounds[:, 0]))
        high[image, unit] = torch.minimum(high[image, unit], up(-bounds[:, 1]))
    return Region(low.view_as(region.low), high.view_as(region.high), region.reach)


def _refined_whole(
    around: Surroundings, is_open: Tensor, images: Tensor, radius: Tensor, norm: CertifiedNorm
) -> Region:
    # The same where every number may depend on the whole image.
    region, network = around.regions[-1], around.network
    low, high = region.low.flatten(1).clone(), region.high.flatten(1).clone()
    count = low.shape[1]
    # As many numbers for every image; those that fill up are left as they are, or the bounds of
    # an image would depend on the others.
    chosen = is_open.float().topk(int(is_open.sum(dim=1).max()), dim=1).indices
    for units in chosen.split(max(1, _NUMBERS // (2 * len(low) * network.widest)), dim=1):
        rows = torch.nn.functional.one_hot(units, count).to(network.dtype)
        both = torch.cat([rows, -rows], dim=1)
        bounds = lower_bounds(around, both, images, radius, norm=norm)
        found = bounds.to(network.dtype)
        asked, bottom, top = is_open.gather(1, units), low.gather(1, units), high.gather(1, units)
        raised = torch.maximum(bottom, down(found[:, : units.shape[1]]))
        lowered = torch.minimum(top, up(-found[:, units.shape[1] :]))
        low.scatter_(1, units, torch.where(asked, raised, bottom))
        high.scatter_(1, units, torch.where(asked, lowered, top))
    return Region(low.view_as(region.low), high.view_as(region.high), region.reach)


def _open(readers: Sequence[ScalarFunction], region: Region) -> Tensor:
    # (B, N) where some reader is no line on the interval.
    found = torch.zeros_like(region.low, dtype=torch.bool)
    for function in readers:
        if not function.is_piecewise_linear:
            return torch.ones_like(found).flatten(1)
        found |= (region.low <= 0) & (region.high > 0)
    return found.flatten(1)


def refinable(network: Network, largest: int | None) -> dict[int, list[ScalarFunction]]:
    """List the steps that are refined: read by activations, but not before the first ones.

    Before those, the bounds of `ball_bounds` are exact already.

    Args:
        network: The steps.
        largest: As in `refined_bounds`.

    Returns:
        The functions that read a step, by its position.
    """
    found: dict[int, list[ScalarFunction]] = {}
    depth = [0] * len(network.steps)
    for position, step in enumerate(network.steps):
        function = step.operation.function
        before = max((depth[source] for source in step.sources), default=0)
        depth[position] = before + (function is not None)
        if function is not None:
            (source,) = step.sources
            if depth[source] > 0 and network.steps[source].operation.is_mixing:
                found.setdefault(source, []).append(function)
    if largest is None:
        largest = None if _cost(network, found) <= AFFORDABLE else LARGEST
    if largest is None:
        return found
    return {p: r for p, r in found.items() if math.prod(network.steps[p].shape) <= largest}


def _cost(network: Network, found: Mapping[int, Sequence[ScalarFunction]]) -> int:
    total = 0
    for position, readers in found.items():
        count = math.prod(network.steps[position].shape)
        if count > LARGEST:
            is_kinked = all(reader.is_piecewise_linear for reader in readers)
            total += count * _coefficients(network, position) * (1 if is_kinked else CURVED)
    return total


def _coefficients(network: Network, position: int) -> int:
    # Of the bound of one number of a step, at the step where they are the most.
    part = network.upto(position)
    fields, widest = receptive_fields(part), part.widest
    return widest if fields is None else min(widest, numbers_seen(part, fields))
