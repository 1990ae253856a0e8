"""Tighten the regions of small layers by linear bounds of every unit."""

from collections.abc import Sequence

import torch
from torch import Tensor

from certify.bounds.lines import Surroundings, lower_bounds
from certify.bounds.operations.activation import Activation
from certify.bounds.operations.affine import Affine
from certify.bounds.operations.joining import Sum
from certify.bounds.regions import Region, ball_regions
from certify.bounds.rounding import down, up
from certify.bounds.trace import Network
from robustcl.threat import Norm

LARGEST = 128  # units of a layer for which every unit's own bound is worth its cost


def refined_regions(
    network: Network, images: Tensor, radius: Tensor, center: Sequence[Region], *, norm: Norm
) -> list[Region]:
    """Enclose the values over balls, small layers by a backward pass for each unit.

    Where a step with at most `LARGEST` numbers is read by an activation, each number is bounded
    from both sides by lines through the steps before it, and the tighter bound is kept.

    Args:
        network: The steps.
        images: (B, C, H, W).
        radius: (B,) of the balls, in pixel units.
        center: From `center_regions`.
        norm: 'l2' or 'linf'.

    Returns:
        One region per step, within those of `ball_regions`.

    Reference:
        Zhang et al., CROWN, NeurIPS 2018, algorithm 1: bounds of each layer from those before.
    """
    small = _worth_it(network)
    if not small:
        return ball_regions(network, images, radius, center, norm=norm)

    def refine(position: int, found: list[Region]) -> Region:
        region = found[position]
        if position not in small:
            return region
        part = Network(network.steps[: position + 1], network.device, network.dtype)
        count = region.low[0].numel()
        units = torch.eye(count, dtype=network.dtype, device=network.device)
        both = torch.cat([units, -units])[None].expand(len(images), -1, -1)
        around = Surroundings(part, center[: position + 1], found, {})
        bounds = lower_bounds(around, both, images, radius, norm=norm)
        low = down(bounds[:, :count].to(network.dtype)).view_as(region.low)
        high = up(-bounds[:, count:].to(network.dtype)).view_as(region.high)
        return Region(
            torch.maximum(region.low, low), torch.minimum(region.high, high), region.reach
        )

    return ball_regions(network, images, radius, center, norm=norm, refine=refine)


def _worth_it(network: Network) -> set[int]:
    # Steps read by an activation, except before the first one, where bounds are exact already.
    found: set[int] = set()
    depth = [0] * len(network.steps)
    for position, step in enumerate(network.steps):
        before = max((depth[source] for source in step.sources), default=0)
        bends = isinstance(step.operation, Activation)
        depth[position] = before + bends
        if bends:
            (source,) = step.sources
            operation = network.steps[source].operation
            size = network.steps[source].shape
            is_small = torch.Size(size).numel() <= LARGEST
            if is_small and depth[source] > 0 and isinstance(operation, Affine | Sum):
                found.add(source)
    return found
