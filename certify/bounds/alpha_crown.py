"""Alpha-CROWN and beta multipliers: linear bounds with slopes that are chosen by gradients."""

from dataclasses import replace

import torch
from torch import Tensor

from robustcl.certify.bounds.linear_bounds import Surroundings, lower_bounds
from robustcl.certify.ops.enclosures import Region
from robustcl.core.choices import CertifiedNorm

PACE = 0.25  # of the first step, in units of the range of slopes
DECAY = 0.85


def optimized_lower_bounds(
    around: Surroundings,
    directions: Tensor,
    images: Tensor,
    radius: Tensor,
    *,
    norm: CertifiedNorm,
    steps: int,
) -> Tensor:
    """Bound a.h from below over a ball, for each direction a, with slopes found by ascent.

    Where a line has to touch a kink, or lie below a curve, any slope between the smallest and the
    largest one gives a sound bound, and so does any price >= 0 of a wrong sign where signs are
    given. Each direction's slopes start at the adaptive ones, prices at 0, and are moved along the
    gradient of the bound by Adam; the best bound of all steps is kept, so none is lower than that
    of `lower_bounds`.

    Args:
        around: The network and its regions over the ball.
        directions: (B, K, d) coefficients of the last step's numbers.
        images: (B, C, H, W).
        radius: (B,) of the ball, pixel units.
        norm: 'l2' or 'linf'.
        steps: Steps of the ascent; each costs about three bounds.

    Returns:
        (B, K) lower bounds of a.h over the ball.

    Reference:
        Xu et al., Fast and Complete: Enabling Complete Neural Network Verification with Rapid and
        Massively Parallel Incomplete Verifiers, ICLR 2021 (alpha-CROWN), section 3.1; Wang et al.,
        Beta-CROWN, NeurIPS 2021, theorem 3.1, for the prices.
    """
    with torch.no_grad():
        best = torch.stack([
            lower_bounds(around, directions, images, radius, norm=norm, tangents=tangents)
            for tangents in (True, False)
        ]).amax(dim=0)  # fmt: skip
    alphas = _adaptive(around, directions.shape[1]) if steps else {}
    if not alphas:
        return best
    prices = _free(around, directions)
    optimizer = torch.optim.Adam([*alphas.values(), *prices.values()], lr=PACE, betas=(0.8, 0.95))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, DECAY)
    tuned = replace(around, alphas=alphas, prices=prices)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            found = lower_bounds(tuned, directions, images, radius, norm=norm)
            held = torch.isfinite(found)
            if not (found.requires_grad and bool(held.any())):
                break  # no slope or price matters: every unit has a sure sign
            (-found[held].sum()).backward()
        best = torch.maximum(best, found.detach().nan_to_num(nan=-torch.inf))
        for value in (*alphas.values(), *prices.values()):
            if value.grad is not None:
                value.grad.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            for alpha in alphas.values():
                alpha.clamp_(0.0, 1.0)
            for price in prices.values():
                price.clamp_(min=0.0)
    with torch.no_grad():
        last = lower_bounds(tuned, directions, images, radius, norm=norm)
    return torch.maximum(best, last.nan_to_num(nan=-torch.inf))


def _free(around: Surroundings, directions: Tensor) -> dict[int, Tensor]:
    # No price yet, for every number whose sign is given.
    count = directions.shape[1]
    return {
        position: torch.zeros_like(side).repeat_interleave(count, 0).requires_grad_()
        for position, side in around.sides.items()
    }


def _adaptive(around: Surroundings, count: int) -> dict[int, Tensor]:
    # 1 for the largest slope, 0 for the smallest: for a kink by the side that reaches further, for
    # a curve where the tangent at the center is.
    alphas: dict[int, Tensor] = {}
    for position, step in enumerate(around.network.steps):
        function = step.operation.function
        if function is None or function.slope is None:
            continue
        region = around.regions[step.sources[0]]
        start = torch.where(region.high > -region.low, 1.0, 0.0).to(region.low)
        if not function.is_piecewise_linear:
            place = around.center[step.sources[0]]
            smallest, largest = function.slopes(region.low, region.high)
            tangent = function.slope_at((place.low + place.high) / 2.0)
            start = (tangent - smallest) / (largest - smallest).clamp_min(1e-300)
            start = start.clamp(0.0, 1.0)
        alphas[position] = start.repeat_interleave(count, 0).requires_grad_()
    return alphas


def split_lower_bounds(
    around: Surroundings,
    directions: Tensor,
    images: Tensor,
    radius: Tensor,
    *,
    norm: CertifiedNorm,
    steps: int,
    splits: int,
) -> Tensor:
    """Bound a.h from below over a ball, for each direction a, as the least over parts of the ball.

    The numbers whose lines are loosest at their kink are chosen, `splits` per image; the ball falls
    into 2^splits parts by their signs. In each part they are lines, and a wrong sign has a price
    (see `optimized_lower_bounds`).

    Args:
        around: The network and its regions over the ball.
        directions: (B, K, d) coefficients of the last step's numbers.
        images: (B, C, H, W).
        radius: (B,) of the ball, pixel units.
        norm: 'l2' or 'linf'.
        steps: Steps of the ascent in each part.
        splits: Numbers that are split.

    Returns:
        (B, K) lower bounds of a.h over the ball.

    Reference:
        Wang et al., Beta-CROWN, NeurIPS 2021, section 3.
    """
    weights: dict[int, Tensor] = {}
    with torch.no_grad():
        lower_bounds(around, directions, images, radius, norm=norm, weights=weights)
    looseness, places = _looseness(around, weights, directions)
    splits = min(splits, looseness.shape[1])
    if not splits:
        return optimized_lower_bounds(around, directions, images, radius, norm=norm, steps=steps)
    chosen = looseness.topk(splits, dim=1).indices
    parts = 2**splits
    signs = torch.cartesian_prod(*[torch.tensor([1.0, -1.0]) for _ in range(splits)])
    signs = signs.view(parts, splits).to(looseness).repeat(len(images), 1)
    chosen, loose = chosen.repeat_interleave(parts, 0), looseness.repeat_interleave(parts, 0)
    # A number with a sure sign has no other side: both parts are the whole there.
    signs = torch.where(loose.gather(1, chosen) > 0, signs, torch.zeros_like(signs))
    sides = torch.zeros_like(loose).scatter(1, chosen, signs)
    within = _within(around, sides, places, parts)
    bounds = optimized_lower_bounds(
        within,
        directions.repeat_interleave(parts, 0),
        images.repeat_interleave(parts, 0),
        radius.repeat_interleave(parts, 0),
        norm=norm,
        steps=steps,
    )
    return bounds.unflatten(0, (-1, parts)).amin(dim=1)


def _looseness(
    around: Surroundings, weights: dict[int, Tensor], directions: Tensor
) -> tuple[Tensor, dict[int, slice]]:
    # For each number before an activation with a kink, by how much its chord misses the kink,
    # times the sum of its weights over all directions.
    count = directions.shape[1]
    found: list[Tensor] = []
    places: dict[int, slice] = {}
    start = 0
    for position, step in enumerate(around.network.steps):
        function = step.operation.function
        if function is None or not function.is_piecewise_linear:
            continue
        region = around.regions[step.sources[0]]
        gap = (-region.low * region.high).clamp_min(0.0)
        gap = gap / (region.high - region.low).clamp_min(1e-300)
        gap = gap * (region.high > 0) * (region.low < 0)
        size = weights[position].abs().unflatten(0, (-1, count)).sum(dim=1)
        found.append((gap * size).flatten(1))
        places[position] = slice(start, start + found[-1].shape[1])
        start = places[position].stop
    empty = torch.zeros(len(directions), 0, dtype=directions.dtype, device=directions.device)
    return (torch.cat(found, dim=1) if found else empty), places


def _within(
    around: Surroundings, sides: Tensor, places: dict[int, slice], parts: int
) -> Surroundings:
    regions = [_repeated(region, parts) for region in around.regions]
    center = [_repeated(region, parts) for region in around.center]
    given: dict[int, Tensor] = {}
    for position, place in places.items():
        source = around.network.steps[position].sources[0]
        region = regions[source]
        side = sides[:, place].view_as(region.low)
        given[position] = side
        low = torch.where(side > 0, region.low.clamp_min(0.0), region.low)
        high = torch.where(side < 0, region.high.clamp_max(0.0), region.high)
        regions[source] = Region(low, high, region.reach)
    return replace(around, center=center, regions=regions, sides=given)


def _repeated(region: Region, parts: int) -> Region:
    values = (region.low, region.high, region.reach)
    return Region(*(value.repeat_interleave(parts, 0) for value in values))
