"""Bound the slopes of chosen directions of h over a ball: a zonotope of gradients."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from robustcl.certify.bounds.preactivation_bounds import all_known
from robustcl.certify.bounds.slopes import slope_bounds
from robustcl.certify.graph import Network
from robustcl.certify.ops.enclosures import Region, Zonotope
from robustcl.certify.rounding import NORM, TINY, UNITS, length, ulps
from robustcl.core.choices import CertifiedNorm

# Undecided units of an image, above which nothing is tried. On two dense networks and one with
# convolutions, 128 raised radii by another 0, 0.04 and 1.4 % at 1.3, 1.2 and 2.2 times the cost.
MOST = 64
_NUMBERS = 2**24  # held in one zonotope at once: 128 MiB of float64


def best_jacobian_bounds(
    network: Network,
    regions: Sequence[Region],
    directions: Tensor,
    *,
    norm: CertifiedNorm,
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
        (B, K) upper bounds: the smaller of `slope_bounds` and `zonotope_jacobian_bounds`.
    """
    plain = slope_bounds(network, regions, directions, norm=norm)
    shared = zonotope_jacobian_bounds(network, regions, directions, norm=norm, most=most)
    return torch.minimum(plain, shared)


def zonotope_jacobian_bounds(
    network: Network,
    regions: Sequence[Region],
    directions: Tensor,
    *,
    norm: CertifiedNorm,
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
    volume = count * network.widest
    limit = min(most, _NUMBERS // volume - 1)
    floor = -1
    for ceiling in sorted({limit >> 2, limit >> 1, limit}):  # images with similar numbers of rows
        similar = ((units > floor) & (units <= ceiling)).nonzero().flatten()
        floor = ceiling
        if not len(similar):
            continue
        for part in similar.split(max(1, _NUMBERS // (volume * (1 + max(ceiling, 0))))):
            around = [Region(r.low[part], r.high[part], r.reach[part]) for r in regions]
            found[part] = _bounds(network, around, directions[part], norm)
    return found


def _undecided(network: Network, regions: Sequence[Region]) -> Tensor:
    # (B,) how many rows each image needs; inf where an operation has no zonotope there.
    units = torch.zeros_like(regions[0].reach)
    for step in network.steps:
        if step.sources:
            units = units + step.operation.open_units([regions[s] for s in step.sources])
    return units


def _bounds(
    network: Network, regions: Sequence[Region], directions: Tensor, norm: CertifiedNorm
) -> Tensor:
    count = directions.shape[1]
    flat = directions.to(network.dtype).flatten(0, 1)
    first = Zonotope(flat[:, None], ulps(flat) * length(flat) + TINY[flat.dtype])
    waiting: dict[int, Zonotope] = {len(network.steps) - 1: first}
    made = 1  # rows that have an owner: a unit's row has the same index along every path
    for position in range(len(network.steps) - 1, 0, -1):
        if position not in waiting:
            continue
        zonotope, step = waiting.pop(position), network.steps[position]
        inputs = [regions[source] for source in step.sources]
        with step.at():
            parts = step.operation.zonotope(zonotope, inputs, count, made)
        made = max(made, *(part.rows.shape[1] for part in parts))
        for source, part in zip(step.sources, parts, strict=True):
            if not network.steps[source].operation.is_constant:
                waiting[source] = _merged(waiting[source], part) if source in waiting else part
    if 0 not in waiting:
        return torch.full((len(directions), count), torch.inf).to(regions[0].reach)
    return _size(waiting[0], norm).nan_to_num(nan=torch.inf, posinf=torch.inf).view(-1, count)


def _merged(first: Zonotope, second: Zonotope) -> Zonotope:
    size = max(first.rows.shape[1], second.rows.shape[1])
    both = Zonotope(first.filled(size) + second.filled(size), (first.rho + second.rho) * NORM)
    lost = ulps(both.rows) * length(both.largest())
    return Zonotope(both.rows, both.rho + lost)


def _size(zonotope: Zonotope, norm: CertifiedNorm) -> Tensor:
    reach, rows = zonotope.largest(), zonotope.rows.flatten(2).double()
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
