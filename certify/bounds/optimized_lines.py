"""Raise linear lower bounds by choosing the slopes of their lines."""

from dataclasses import replace

import torch
from torch import Tensor

from robustcl.certify.bounds.lines import Surroundings, lower_bounds
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
