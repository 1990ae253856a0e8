"""Bound directions of h from below over a ball by lines through the network (CROWN)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustcl.certify.bounds.preactivation_bounds import all_known
from robustcl.certify.graph import Network
from robustcl.certify.ops.enclosures import LinearBound, LineChoice, Region
from robustcl.certify.rounding import NORM, SQUARES, dot_loss, weighted
from robustcl.core.choices import CertifiedNorm


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Hold what is known of a network over a ball.

    Args:
        network: The steps.
        center: Regions at the images, from `center_regions`.
        regions: Regions over the ball, from `ball_regions`.
        alphas: Slopes of the lines below unstable ReLUs, (B * K, *shape) in [0, 1], by the position
            of the step; where a step has none, the slope follows from its region.
        sides: Numbers read by an activation whose sign is given, 1 or -1, else 0: (B, *shape), by
            the position of the activation. Only points of the ball with these signs are meant.
        prices: What a wrong sign costs, (B * K, *shape) >= 0, by the position of the activation.
    """

    network: Network
    center: Sequence[Region]
    regions: Sequence[Region]
    alphas: Mapping[int, Tensor]
    sides: Mapping[int, Tensor] = field(default_factory=dict)
    prices: Mapping[int, Tensor] = field(default_factory=dict)


def lower_bounds(
    around: Surroundings,
    directions: Tensor,
    images: Tensor,
    radius: Tensor,
    *,
    norm: CertifiedNorm,
    weights: dict[int, Tensor] | None = None,
    tangents: bool = True,
) -> Tensor:
    """Bound a.h from below over a ball, for each direction a.

    Backwards from a, every operation is replaced by lines that bound it over its region; at the
    image the linear function's minimum over the ball is known. At an activation the offsets of the
    lines may be coupled over all numbers by the L2 reach of the region (see `scalar_lines`).
    Rounding is included.

    Args:
        around: The network and its regions over the ball.
        directions: (B, K, d) coefficients of the last step's numbers.
        images: (B, C, H, W).
        radius: (B,) of the ball, pixel units.
        norm: 'l2' or 'linf'.
        weights: Filled with the coefficients (B * K, *shape) of what each activation gives.
        tangents: Whether lines that are tangents at the center are chosen where they raise the
            bound's value there. Without them the bound is at least that of plain CROWN; with them
            it is often larger, but not always.

    Returns:
        (B, K) lower bounds of a.h over the ball; -inf where a value inside is not enclosed.

    Reference:
        Zhang et al., Efficient Neural Network Robustness Certification (CROWN), NeurIPS 2018.
    """
    network, count = around.network, directions.shape[1]
    last = len(network.steps) - 1
    flat = directions.to(network.dtype).flatten(0, 1).view(-1, *network.steps[last].shape)
    constant = torch.zeros(len(flat), dtype=torch.float64, device=flat.device)
    lost = dot_loss(flat) * weighted(flat, around.regions[last].largest)
    waiting = {last: flat}
    for position in range(last, 0, -1):
        if position not in waiting:
            continue
        slope = waiting.pop(position)
        if weights is not None and network.steps[position].operation.function is not None:
            weights[position] = slope
        bound = _through(around, position, slope, count, tangents)
        constant, lost = constant + bound.constant, lost + bound.lost
        for source, part in zip(network.steps[position].sources, bound.coefficients, strict=True):
            waiting[source] = waiting[source] + part if source in waiting else part
    if 0 in waiting:
        value, more = _at_image(waiting[0], images, radius, norm)
        constant, lost = constant + value, lost + more
    found = (constant - lost - 1e-14 * constant.abs()).view(-1, count)
    return torch.where(all_known(around.regions)[:, None] & ~found.isnan(), found, -torch.inf)


def _through(
    around: Surroundings, position: int, slope: Tensor, count: int, tangents: bool
) -> LinearBound:
    step = around.network.steps[position]
    inputs = [around.regions[source] for source in step.sources]
    choice = LineChoice(
        count,
        [around.center[source] for source in step.sources],
        around.alphas.get(position),
        tangents,
    )
    with step.at():
        bound = step.operation.linear_bound(slope, inputs, choice)
    parts, lost = list(bound.coefficients), bound.lost
    if position in around.prices:  # side z >= 0, so nothing is gained by subtracting it
        side = around.sides[position].repeat_interleave(count, 0)
        parts = [part - side * around.prices[position] for part in parts]
    for region, part in zip(inputs, parts, strict=True):
        # The coefficients of several users of a step are added, with one rounding each.
        lost = lost + dot_loss(part) * weighted(part, region.largest)
    return LinearBound(tuple(parts), bound.constant, lost)


def _at_image(
    slope: Tensor, images: Tensor, radius: Tensor, norm: CertifiedNorm
) -> tuple[Tensor, Tensor]:
    centers = images.double().to(slope.device).flatten(1)
    slope = slope.double().view(len(images), -1, centers.shape[1])
    size = torch.linalg.vector_norm(slope, 2.0 if norm == "l2" else 1.0, dim=2) * NORM + SQUARES
    fall = radius.to(size)[:, None] * size * NORM
    value = torch.einsum("bkd,bd->bk", slope, centers) - fall
    largest = torch.einsum("bkd,bd->bk", slope.abs(), centers.abs()) + fall
    return value.flatten(), dot_loss(centers) * largest.flatten()
