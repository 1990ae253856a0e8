"""Bound directions of h from below over a ball by lines through the network (CROWN)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustcl.certify.bounds.activation_lines import activation_lines
from robustcl.certify.bounds.operations.activation import Activation
from robustcl.certify.bounds.operations.affine import Affine
from robustcl.certify.bounds.operations.joining import (
    Concatenation,
    Constant,
    Image,
    MaxPool,
    Sum,
)
from robustcl.certify.bounds.regions import Region, all_known
from robustcl.certify.bounds.rounding import NORM, SQUARES, dot, dot_loss, weighted
from robustcl.certify.bounds.trace import Network
from robustcl.certify.norms import Norm


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


@dataclass(frozen=True, eq=False)
class Bound:
    """Hold a lower bound that is linear in the values of one step.

    Args:
        slope: (B * K, *shape) coefficients of the step's values.
        constant: (B * K,) what is added.
        lost: (B * K,) at least what rounding may have added wrongly.
    """

    slope: Tensor
    constant: Tensor
    lost: Tensor


def lower_bounds(
    around: Surroundings,
    directions: Tensor,
    images: Tensor,
    radius: Tensor,
    *,
    norm: Norm,
    weights: dict[int, Tensor] | None = None,
    tangents: bool = True,
) -> Tensor:
    """Bound a.h from below over a ball, for each direction a.

    Backwards from a, every operation is replaced by lines that bound it over its region; at the
    image the linear function's minimum over the ball is known. At an activation the offsets of the
    lines may be coupled over all numbers by the L2 reach of the region (see `activation_lines`).
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
    count = directions.shape[1]
    last = len(around.network.steps) - 1
    shape = around.network.steps[last].shape
    flat = directions.to(around.network.dtype).flatten(0, 1).view(-1, *shape)
    constant = torch.zeros(len(flat), dtype=torch.float64, device=flat.device)
    lost = dot_loss(flat) * weighted(flat, _largest(around.regions[last]))
    waiting = {last: flat}
    for position in range(len(around.network.steps) - 1, -1, -1):
        if position not in waiting:
            continue
        slope = waiting.pop(position)
        operation = around.network.steps[position].operation
        if isinstance(operation, Image):
            constant, lost = _at_image(Bound(slope, constant, lost), images, radius, norm)
            continue
        if isinstance(operation, Constant):
            value = operation.value.expand_as(slope)
            constant = constant + dot(slope, value)
            lost = lost + dot_loss(slope) * dot(slope.abs(), value.abs())
            continue
        if weights is not None and isinstance(operation, Activation):
            weights[position] = slope
        parts, more, error = _through(around, position, slope, count, tangents)
        constant, lost = constant + more, lost + error
        for source, part in parts:
            waiting[source] = waiting[source] + part if source in waiting else part
    found = (constant - lost - 1e-14 * constant.abs()).view(-1, count)
    return torch.where(all_known(around.regions)[:, None] & ~found.isnan(), found, -torch.inf)


def _through(
    around: Surroundings, position: int, slope: Tensor, count: int, tangents: bool
) -> tuple[list[tuple[int, Tensor]], Tensor, Tensor]:
    # The slopes at the sources, what is added to the constant, and the rounding.
    step = around.network.steps[position]
    operation, sources = step.operation, step.sources
    zero = torch.zeros(len(slope), dtype=torch.float64, device=slope.device)
    if isinstance(operation, Sum):
        signed = zip(sources, operation.signs, strict=True)
        # Where slopes meet again at a source they are added, with one rounding each.
        size = [weighted(slope, _largest(around.regions[s])) for s in sources]
        lost = dot_loss(slope) * torch.stack(size).sum(dim=0)
        return [(source, sign * slope) for source, sign in signed], zero, lost
    if isinstance(operation, Concatenation):
        pieces = slope.split(operation.sizes, operation.axis + 1)
        return list(zip(sources, pieces, strict=True)), zero, zero
    (source,) = sources
    region = around.regions[source]
    if isinstance(operation, Affine):
        part, more, lost = _through_affine(operation, region, slope, count)
    elif isinstance(operation, Activation):
        part, more, lost = activation_lines(
            operation,
            region,
            around.center[source],
            slope,
            count=count,
            alpha=around.alphas.get(position),
            tangents=tangents,
        )
        if position in around.prices:  # side z >= 0, so nothing is gained by subtracting it
            side = around.sides[position].repeat_interleave(count, 0)
            part = part - side * around.prices[position]
    else:
        assert isinstance(operation, MaxPool)
        part, more, lost = _through_windows(operation, region, slope, count)
    # The slopes of several users of the source are added, with one rounding each.
    lost = lost + dot_loss(part) * weighted(part, _largest(region))
    return [(source, part)], more, lost


def _at_image(bound: Bound, images: Tensor, radius: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    centers = images.double().to(bound.slope.device).flatten(1)
    slope = bound.slope.double().view(len(images), -1, centers.shape[1])
    size = torch.linalg.vector_norm(slope, 2.0 if norm == "l2" else 1.0, dim=2) * NORM + SQUARES
    fall = radius.to(size)[:, None] * size * NORM
    value = torch.einsum("bkd,bd->bk", slope, centers) - fall
    largest = torch.einsum("bkd,bd->bk", slope.abs(), centers.abs()) + fall
    lost = bound.lost + dot_loss(centers) * largest.flatten()
    return bound.constant + value.flatten(), lost


def _through_affine(
    operation: Affine, region: Region, slope: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    largest = operation.absolute(torch.maximum(region.low.abs(), region.high.abs()))
    more = torch.zeros(len(slope), dtype=torch.float64, device=slope.device)
    if operation.offset is not None:
        largest = largest + operation.offset_size
        more = dot(slope, operation.offset.expand_as(slope))
    largest = largest.expand(len(slope) // count, *slope.shape[1:])
    lost = dot_loss(slope, operation.terms) * weighted(slope, largest)
    return operation.pull(slope), more, lost


def _through_windows(
    operation: MaxPool, region: Region, slope: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    # From below by the pixel whose lower bound is largest; from above by the largest upper bound,
    # or by that pixel itself where no other can be larger.
    low, high = operation.windows(region.low), operation.windows(region.high)
    winner = torch.nn.functional.one_hot(low.argmax(dim=2), low.shape[2]).movedim(-1, 2)
    highest = high.amax(dim=2)
    others = high.masked_fill(winner.bool(), -torch.inf).amax(dim=2)
    decided = low.amax(dim=2) >= others
    winner, decided, highest = (
        value.to(low).repeat_interleave(count, 0) for value in (winner, decided, highest)
    )
    flat = slope.flatten(2)
    kept = torch.where((flat >= 0) | decided.bool(), flat, torch.zeros_like(flat))
    rest = (flat - kept).clamp_max(0.0)
    part = operation.scatter(kept[:, :, None] * winner)
    more = dot(rest, highest)
    lost = dot_loss(flat, 16) * (dot(flat.abs(), highest.abs()) + more.abs())
    pixels = weighted(part, _largest(region))
    return part, more, lost + dot_loss(part, operation.covers) * pixels


def _largest(region: Region) -> Tensor:
    return torch.maximum(region.low.abs(), region.high.abs())
