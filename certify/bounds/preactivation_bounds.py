"""Enclose every value inside a network over a ball around the image."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robustcl.certify.bounds.layers import prefix_norms
from robustcl.certify.graph import Network
from robustcl.certify.ops.enclosures import Ball, Region, sided
from robustcl.certify.rounding import NORM, down, length, up
from robustcl.core.choices import CertifiedNorm

Refinement = Callable[[int, list[Region]], Region]


def center_bounds(network: Network, images: Tensor) -> list[Region]:
    """Enclose the values at the images themselves, rounding errors included.

    Args:
        network: The steps.
        images: (B, C, H, W) in pixel units.

    Returns:
        One region per step: the real-arithmetic values lie in them, and `reach` is 0. Numbers about
        which nothing is known, as where float64 overflows, reach from -inf to inf.
    """
    still = torch.zeros(len(images), dtype=torch.float64, device=network.device)
    return _walk(network, _ball(network, images, still, "l2"))


def ball_bounds(
    network: Network,
    images: Tensor,
    radius: Tensor,
    center: Sequence[Region],
    *,
    norm: CertifiedNorm,
    refine: Refinement | None = None,
) -> list[Region]:
    """Enclose the values over balls around the images.

    Of interval arithmetic through each operation and of the distance that the norms of the layers
    before allow (the L2 norm of a row times the reach of its inputs; the Linf norm of the steps
    before), the tighter is taken for each number. Rounding is accounted for.

    Args:
        network: The steps.
        images: (B, C, H, W).
        radius: (B,) of the balls, in pixel units.
        center: From `center_bounds`.
        norm: 'l2' or 'linf'.
        refine: Given a position and the regions up to it, a smaller region for it.

    Returns:
        One region per step.

    Reference:
        Gowal et al., On the Effectiveness of Interval Bound Propagation, 2018; Weng et al., Towards
        Fast Computation of Certified Robustness, ICML 2018, section 3.4 for the rows' norms.
    """
    ball = _ball(network, images, radius.double().to(network.device), norm)
    return _walk(network, ball, center, refine)


def _ball(network: Network, images: Tensor, radius: Tensor, norm: CertifiedNorm) -> Ball:
    return Ball(norm, radius, images.double().to(network.device), network.dtype)


def in_type(regions: Sequence[Region], dtype: torch.dtype) -> list[Region]:
    """Round regions outward to another type.

    Args:
        regions: Any.
        dtype: torch.float64 or torch.float32.

    Returns:
        Regions that contain them.
    """
    return [Region(down(r.low.to(dtype)), up(r.high.to(dtype)), r.reach) for r in regions]


def _walk(
    network: Network,
    ball: Ball,
    center: Sequence[Region] | None = None,
    refine: Refinement | None = None,
) -> list[Region]:
    prefix = None if center is None else prefix_norms(network, norm=ball.norm)
    found: list[Region] = []
    for position, step in enumerate(network.steps):
        inputs = [found[source] for source in step.sources]
        own = None if center is None else center[position]
        with step.at():
            fresh = step.operation.enclose(inputs, ball, own)
        if own is not None and prefix is not None:
            fresh = _meet(fresh, own, ball, prefix[position])
        found.append(fresh)
        if refine is not None:
            found[position] = refine(position, found)
    return found if bool(all_known(found).all()) else [_known(region) for region in found]


def _known(region: Region) -> Region:
    # Not-a-number says nothing, which is not the same as "on neither side of 0".
    return Region(
        region.low.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf),
        region.high.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf),
        region.reach.nan_to_num(nan=torch.inf, posinf=torch.inf),
    )


def all_known(regions: Sequence[Region]) -> Tensor:
    """Tell for which images every value inside the network is enclosed by numbers.

    Bounds through steps that are not would multiply infinities by 0, and prove nothing.

    Args:
        regions: One per step, for B images.

    Returns:
        (B,) truth values.
    """
    total = torch.zeros_like(regions[0].reach)
    for region in regions:
        widths = (region.high - region.low).flatten(1).sum(dim=1, dtype=torch.float64)
        total = total + widths + region.reach
    return torch.isfinite(total)


def _meet(region: Region, center: Region, ball: Ball, prefix: float) -> Region:
    # Intersect with the reach around the center, and bound the reach by the intervals' width.
    reach = bound = region.reach
    if ball.norm == "linf":
        bound = torch.minimum(reach, ball.radius * (prefix * NORM))
    bound = up(sided(bound, region.low).to(region.low))
    low = torch.maximum(region.low, down(center.low - bound))
    high = torch.minimum(region.high, up(center.high + bound))
    width = torch.maximum(high - center.low, center.high - low).clamp_min(0.0)
    return Region(low, high, torch.minimum(reach, length(up(width))))
