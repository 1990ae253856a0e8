"""Bound the slopes of chosen directions of h over a ball: a zonotope of gradients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustcl.certify.bounds.operations.activation import Activation
from robustcl.certify.bounds.operations.affine import Affine
from robustcl.certify.bounds.operations.joining import (
    Concatenation,
    Constant,
    MaxPool,
    Sum,
)
from robustcl.certify.bounds.regions import Region, all_known
from robustcl.certify.bounds.rounding import NORM, TINY, UNITS, length, outward, ulps, unit, up
from robustcl.certify.bounds.slopes import slope_bounds
from robustcl.certify.bounds.trace import Network
from robustcl.certify.norms import Norm

# Undecided units of an image, above which nothing is tried. On two dense networks and one with
# convolutions, 128 raised radii by another 0, 0.04 and 1.4 % at 1.3, 1.2 and 2.2 times the cost.
MOST = 64
NUMBERS = 2**24  # held in one zonotope at once: 128 MiB of float64
NOISE = 16.0  # times what evaluating a slope may lose: so little is no unit of its own


@dataclass(frozen=True, eq=False)
class Zonotope:
    """Enclose the gradients of some scalars with respect to one step, over a ball.

    Every gradient is rows[0] + sum_u t_u rows[u] + e with |t_u| <= 1 and |e|_2 <= rho. Row u > 0
    belongs to one undecided unit, and t_u is the same at every step that is reached from there.

    Args:
        rows: (B * K, 1 + m, *shape).
        rho: (B * K,) float64.
    """

    rows: Tensor
    rho: Tensor


@dataclass(frozen=True, eq=False)
class Bend:
    """Enclose the slopes of an activation by middle +- width.

    Args:
        middle: (B, *shape).
        width: (B, *shape), raised by what computing both and multiplying by middle may lose.
        largest: (B, *shape) at least the slopes' sizes.
        is_open: (B, *shape), where width is more than rounding.
    """

    middle: Tensor
    width: Tensor
    largest: Tensor
    is_open: Tensor


def best_slope_bounds(
    network: Network,
    regions: Sequence[Region],
    directions: Tensor,
    *,
    norm: Norm,
    most: int = MOST,
) -> Tensor:
    """Bound the dual norm of the gradient of a.h over a region in both ways; take the smaller.

    Args:
        network: The steps.
        regions: One per step, over the ball, for B images.
        directions: (B, K, d) float64.
        norm: 'l2' for the L2 norm of the gradient, 'linf' for its L1 norm.
        most: Undecided units of an image, above which no zonotope is tried.

    Returns:
        (B, K) upper bounds: the smaller of `slope_bounds` and `generator_slope_bounds`.
    """
    plain = slope_bounds(network, regions, directions, norm=norm)
    shared = generator_slope_bounds(network, regions, directions, norm=norm, most=most)
    return torch.minimum(plain, shared)


def generator_slope_bounds(
    network: Network,
    regions: Sequence[Region],
    directions: Tensor,
    *,
    norm: Norm,
    most: int = MOST,
) -> Tensor:
    """Bound the dual norm of the gradient of a.h over a region, by what undecided units do to it.

    A backward pass carries a center, a row for every undecided unit that was crossed, and a rest
    in L2. At an activation with slopes in [m - w, m + w] center and rows are multiplied by m, and
    each unit with w > 0 adds a row: w times the largest size of its gradient, at that unit alone.
    As one unit moves many numbers together, this loses less than intervals, which forget it. The
    rest carries all rounding, and the units whose w is no more than that.

    Args:
        network: The steps.
        regions: One per step, over the ball, for B images.
        directions: (B, K, d) float64.
        norm: 'l2' for the L2 norm of the gradient, 'linf' for its L1 norm.
        most: Undecided units of an image, above which no zonotope is tried.

    Returns:
        (B, K) upper bounds of sup |gradient|_q, as the derivative exists almost everywhere; inf for
        images with more than `most` undecided units, or an undecided window of max-pooling.

    Reference:
        Jordan and Dimakis, Provable Lipschitz Certification for Generative Models, ICML 2021, for
        zonotopes of gradients. The rest in L2, and the norm by products of rows, are ours.
    """
    batch, count = directions.shape[:2]
    found = torch.full((batch, count), torch.inf, dtype=torch.float64, device=network.device)
    units = _undecided(network, regions).masked_fill(~all_known(regions), torch.inf)
    volume = count * max(math.prod(step.shape) for step in network.steps)
    limit = min(most, NUMBERS // volume - 1)
    floor = -1
    for ceiling in sorted({limit >> 2, limit >> 1, limit}):  # images with similar numbers of rows
        similar = ((units > floor) & (units <= ceiling)).nonzero().flatten()
        floor = ceiling
        if not len(similar):
            continue
        for part in similar.split(max(1, NUMBERS // (volume * (1 + max(ceiling, 0))))):
            around = [Region(r.low[part], r.high[part], r.reach[part]) for r in regions]
            found[part] = _bounds(network, around, directions[part], norm)
    return found


def _undecided(network: Network, regions: Sequence[Region]) -> Tensor:
    # (B,) how many rows each image needs; inf where a window of max-pooling is undecided.
    units = torch.zeros_like(regions[0].reach)
    for step in network.steps:
        if isinstance(step.operation, Activation):
            bend = _bend(step.operation, regions[step.sources[0]])
            units = units + bend.is_open.flatten(1).sum(dim=1)
        elif isinstance(step.operation, MaxPool):
            chosen = _chosen(step.operation, regions[step.sources[0]])
            is_open = (chosen.sum(dim=2) != 1).flatten(1).any(dim=1)
            units = units.masked_fill(is_open, torch.inf)
    return units


def _bounds(network: Network, regions: Sequence[Region], directions: Tensor, norm: Norm) -> Tensor:
    count = directions.shape[1]
    flat = directions.to(network.dtype).flatten(0, 1)
    first = Zonotope(flat[:, None], ulps(flat) * length(flat) + TINY[flat.dtype])
    waiting: dict[int, Zonotope] = {len(network.steps) - 1: first}
    made = 1  # rows that have an owner: a unit's row has the same index along every path
    for position in range(len(network.steps) - 1, 0, -1):
        if position not in waiting:
            continue
        zonotope, step = waiting.pop(position), network.steps[position]
        if isinstance(step.operation, Activation):
            source = regions[step.sources[0]]
            bent = _pull_activation(step.operation, source, zonotope, count, made)
            made = max(made, bent.rows.shape[1])
            parts = [(step.sources[0], bent)]
        else:
            parts = _pull(network, regions, position, zonotope, count)
        for source, part in parts:
            waiting[source] = _merged(waiting[source], part) if source in waiting else part
    if 0 not in waiting:
        return torch.full((len(directions), count), torch.inf).to(regions[0].reach)
    return _size(waiting[0], norm).nan_to_num(nan=torch.inf, posinf=torch.inf).view(-1, count)


def _pull(
    network: Network, regions: Sequence[Region], position: int, zonotope: Zonotope, count: int
) -> list[tuple[int, Zonotope]]:
    step = network.steps[position]
    operation, sources = step.operation, step.sources
    if isinstance(operation, Sum):
        signed = zip(sources, operation.signs, strict=True)
        parts = [(source, replace(zonotope, rows=sign * zonotope.rows)) for source, sign in signed]
    elif isinstance(operation, Concatenation):
        pieces = zonotope.rows.split(operation.sizes, operation.axis + 2)
        zipped = zip(sources, pieces, strict=True)
        parts = [(source, Zonotope(piece, zonotope.rho)) for source, piece in zipped]
    elif isinstance(operation, Affine):
        parts = [(sources[0], _pull_affine(operation, zonotope))]
    else:
        assert isinstance(operation, MaxPool)
        parts = [(sources[0], _pull_windows(operation, regions[sources[0]], zonotope, count))]
    return [p for p in parts if not isinstance(network.steps[p[0]].operation, Constant)]


def _merged(first: Zonotope, second: Zonotope) -> Zonotope:
    size = max(first.rows.shape[1], second.rows.shape[1])
    rows = _filled(first.rows, size) + _filled(second.rows, size)
    rho = (first.rho + second.rho) * NORM + ulps(rows) * length(_reach(rows))
    return Zonotope(rows, rho)


def _pull_affine(operation: Affine, zonotope: Zonotope) -> Zonotope:
    rows = zonotope.rows
    pulled = operation.pull(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
    if not operation.terms:
        return Zonotope(pulled, zonotope.rho)
    # Each row loses at most loss |W|^T |row|, all together loss |W|^T sum |row|.
    lost = 2.0 * operation.rounding * operation.magnitude * length(_reach(rows))
    rho = zonotope.rho * (operation.norms["l2"] * NORM) + lost + TINY[rows.dtype]
    return Zonotope(pulled, rho)


def _bend(operation: Activation, source: Region) -> Bend:
    low, high = operation.slopes(source.low, source.high)
    middle, width = (low + high) / 2.0, (high - low) / 2.0
    largest = torch.maximum(low.abs(), high.abs())
    if operation.is_exact:
        return Bend(middle, width, largest, width > 0)
    width = up(width) + ulps(width) * largest
    # Not-a-number counts as open.
    return Bend(middle, width, largest, ~(width <= NOISE * outward(width) * (1.0 + largest)))


def _pull_activation(
    operation: Activation, source: Region, zonotope: Zonotope, count: int, made: int
) -> Zonotope:
    bend = _bend(operation, source)
    rows = (zonotope.rows.unflatten(0, (-1, count)) * bend.middle[:, None, None]).flatten(0, 1)
    raised = bend.width * (1.0 + ulps(bend.width))
    change = (_reach(zonotope.rows).unflatten(0, (-1, count)) * raised[:, None]).flatten(0, 1)
    is_open = bend.is_open.repeat_interleave(count, 0)
    steepest = bend.largest.flatten(1).amax(dim=1).double().repeat_interleave(count)
    closed = length(change.masked_fill(is_open, 0.0))
    rho = (zonotope.rho * steepest + closed) * NORM + TINY[rows.dtype]
    most = int(bend.is_open.flatten(1).sum(dim=1).max())
    if not most:
        return Zonotope(rows, rho)
    places = bend.is_open.flatten(1).to(rows).topk(most, dim=1).indices.repeat_interleave(count, 0)
    moves = change.masked_fill(~is_open, 0.0).flatten(1).gather(1, places)
    fresh = rows.new_zeros(len(rows), most, rows[0, 0].numel())
    fresh.scatter_(2, places[:, :, None], moves[:, :, None])
    return Zonotope(torch.cat([_filled(rows, made), fresh.view(-1, most, *rows.shape[2:])], 1), rho)


def _chosen(operation: MaxPool, source: Region) -> Tensor:
    # Pixels of each window that may be its largest.
    low, high = operation.windows(source.low), operation.windows(source.high)
    return high >= low.amax(dim=2, keepdim=True)


def _pull_windows(operation: MaxPool, source: Region, zonotope: Zonotope, count: int) -> Zonotope:
    # Of decided windows, where each hands its number to one pixel.
    rows = zonotope.rows
    chosen = _chosen(operation, source).to(rows).repeat_interleave(count, 0)
    columns = rows.flatten(3)[:, :, :, None] * chosen[:, None]
    pulled = operation.scatter(columns.flatten(0, 1)).unflatten(0, rows.shape[:2])
    lost = ulps(rows) * operation.covers * length(_reach(rows))
    root = math.sqrt(operation.covers) * NORM
    return Zonotope(pulled, root * (zonotope.rho + lost) + TINY[rows.dtype])


def _size(zonotope: Zonotope, norm: Norm) -> Tensor:
    reach, rows = _reach(zonotope.rows), zonotope.rows.flatten(2).double()
    if norm == "linf":
        total = reach.flatten(1).sum(dim=1, dtype=torch.float64)
        return (total + math.sqrt(rows.shape[2]) * zonotope.rho) * NORM
    # |sum_u t_u row_u|^2 is at most the sum of |row_u . row_v|, each product off by gamma_n.
    products = torch.bmm(rows, rows.mT).abs_().sum(dim=(1, 2))
    terms = rows.shape[2] + rows.shape[1] ** 2 + 32
    loss = 4.0 * terms * UNITS[torch.float64]
    sizes = torch.linalg.vector_norm(rows, dim=2).sum(dim=1)
    square = products + loss * sizes**2 + TINY[torch.float64]
    return (torch.minimum(length(reach), square.sqrt() * NORM) + zonotope.rho) * NORM


def _reach(rows: Tensor) -> Tensor:
    # The largest size of every number without the rest, raised by what the sum may lose.
    return torch.linalg.vector_norm(rows, 1, dim=1) * (
        1.0 + 2.0 * (rows.shape[1] + 16) * unit(rows)
    )


def _filled(rows: Tensor, size: int) -> Tensor:
    if rows.shape[1] == size:
        return rows
    return torch.cat([rows, rows.new_zeros(len(rows), size - rows.shape[1], *rows.shape[2:])], 1)
