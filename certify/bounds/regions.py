"""Enclose every value inside a network over a ball around the image."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.certify.bounds.operations.activation import Activation
from robustcl.certify.bounds.operations.affine import Affine
from robustcl.certify.bounds.operations.joining import (
    Concatenation,
    Constant,
    Image,
    MaxPool,
    Sum,
)
from robustcl.certify.bounds.prefix_norms import operation_norm, prefix_norms
from robustcl.certify.bounds.rounding import NORM, SQUARES, TINY, down, length, ulps, up
from robustcl.certify.bounds.trace import Network, Step
from robustcl.certify.norms import Norm


@dataclass(frozen=True, eq=False)
class Region:
    """Enclose the values of one step over a ball.

    Args:
        low: (B, *shape) in the network's type, at most every value.
        high: (B, *shape), at least every value.
        reach: (B,) float64, at least the L2 distance of every value from the one at the center.
    """

    low: Tensor
    high: Tensor
    reach: Tensor


@dataclass(frozen=True, eq=False)
class Ball:
    """Hold the ball, and what is known of its center.

    Args:
        norm: Of the ball.
        radius: (B,) float64 in pixel units.
        center: Regions of radius 0, whose width is the rounding of the forward pass; None while
            they are computed.
        prefix: Bounds from the image to every step, measured by the norm of the ball.
    """

    norm: Norm
    radius: Tensor
    center: "Sequence[Region] | None"
    prefix: tuple[float, ...]


Refinement = Callable[[int, list[Region]], Region]


def center_regions(network: Network, images: Tensor) -> list[Region]:
    """Enclose the values at the images themselves, rounding errors included.

    Args:
        network: The steps.
        images: (B, C, H, W) in pixel units.

    Returns:
        One region per step: the real-arithmetic values lie in them, and `reach` is 0. Numbers about
        which nothing is known, as where float64 overflows, reach from -inf to inf.
    """
    still = torch.zeros(len(images), dtype=torch.float64, device=network.device)
    return _walk(network, images, Ball("l2", still, None, (0.0,) * len(network.steps)))


def ball_regions(
    network: Network,
    images: Tensor,
    radius: Tensor,
    center: Sequence[Region],
    *,
    norm: Norm,
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
        center: From `center_regions`.
        norm: 'l2' or 'linf'.
        refine: Given a position and the regions up to it, a smaller region for it.

    Returns:
        One region per step.

    Reference:
        Gowal et al., On the Effectiveness of Interval Bound Propagation, 2018; Weng et al., Towards
        Fast Computation of Certified Robustness, ICML 2018, section 3.4 for the rows' norms.
    """
    radius = radius.double().to(network.device)
    prefix = prefix_norms(network, norm=norm)
    return _walk(network, images, Ball(norm, radius, center, prefix), refine)


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
    network: Network, images: Tensor, ball: Ball, refine: Refinement | None = None
) -> list[Region]:
    images = images.double().to(network.device)
    found: list[Region] = []
    for position, step in enumerate(network.steps):
        if isinstance(step.operation, Image):
            fresh = _image(images, ball, network.dtype)
        else:
            fresh = _step(step, [found[source] for source in step.sources], position, ball)
        found.append(fresh if ball.center is None else _meet(fresh, position, ball))
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


def _image(images: Tensor, ball: Ball, dtype: torch.dtype) -> Region:
    radius = _sided(ball.radius, images) * (1.0 + ulps(images))
    low, high = images - radius, images + radius
    still = dtype == torch.float64 and not bool((ball.radius > 0).any())
    low, high = (low, high) if still else (down(down(low).to(dtype)), up(up(high).to(dtype)))
    reach = ball.radius * NORM
    if ball.norm == "linf":
        reach = reach * math.sqrt(images[0].numel())
    return Region(low, high, reach)


def _meet(region: Region, position: int, ball: Ball) -> Region:
    # Intersect with the reach around the center, and bound the reach by the intervals' width.
    assert ball.center is not None
    center = ball.center[position]
    reach = bound = region.reach
    if ball.norm == "linf":
        bound = torch.minimum(reach, ball.radius * (ball.prefix[position] * NORM))
    bound = up(_sided(bound, region.low).to(region.low))
    low = torch.maximum(region.low, down(center.low - bound))
    high = torch.minimum(region.high, up(center.high + bound))
    width = torch.maximum(high - center.low, center.high - low).clamp_min(0.0)
    return Region(low, high, torch.minimum(reach, length(up(width))))


def _sided(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


def _step(step: Step, sources: list[Region], position: int, ball: Ball) -> Region:
    operation = step.operation
    if isinstance(operation, Affine):
        return _affine(operation, sources[0], position, ball)
    if isinstance(operation, Activation):
        low, high = operation.range(sources[0].low, sources[0].high)
        return Region(low, high, sources[0].reach * operation.steepest * NORM)
    if isinstance(operation, Sum):
        low, high = _sum(operation, sources)
        reach = torch.stack([source.reach for source in sources]).sum(dim=0) * NORM
        return Region(low, high, reach)
    if isinstance(operation, Concatenation):
        axis = operation.axis + 1
        low = torch.cat([source.low for source in sources], axis)
        high = torch.cat([source.high for source in sources], axis)
        parts = torch.stack([source.reach for source in sources])
        return Region(low, high, torch.linalg.vector_norm(parts, dim=0) * NORM + SQUARES)
    if isinstance(operation, MaxPool):
        norm = operation_norm(operation, norm="l2")
        low, high = operation.layer(sources[0].low), operation.layer(sources[0].high)
        return Region(low, high, sources[0].reach * (norm * NORM))
    assert isinstance(operation, Constant)
    value = operation.value.expand(len(ball.radius), *operation.value.shape[1:])
    return Region(down(value), up(value), torch.zeros_like(ball.radius))


def _affine(operation: Affine, source: Region, position: int, ball: Ball) -> Region:
    middle = (source.low + source.high) / 2.0
    radius = up(torch.maximum(source.high - middle, middle - source.low))
    loss = operation.rounding
    spread = operation.absolute(radius * (1.0 + 4 * loss) + 2 * loss * middle.abs())
    value = operation.apply(middle)
    if operation.offset is not None:
        value = value + operation.offset
        spread = spread + 2 * loss * operation.offset_size
    spread = up(spread) + TINY[value.dtype]
    low, high = down(value - spread), up(value + spread)
    reach = source.reach * (operation.norms["l2"] * NORM)
    if ball.center is not None:
        # |row| times the reach of the inputs, around the value at the center.
        center = ball.center[position]
        row = up(operation.rows * up(_sided(source.reach, value).to(value)))
        low = torch.maximum(low, down(center.low - row))
        high = torch.minimum(high, up(center.high + row))
    return Region(low, high, reach)


def _sum(operation: Sum, sources: list[Region]) -> tuple[Tensor, Tensor]:
    low: Tensor | float = 0.0
    high: Tensor | float = 0.0
    for sign, source in zip(operation.signs, sources, strict=True):
        low = low + (source.low if sign > 0 else -source.high)
        high = high + (source.high if sign > 0 else -source.low)
    assert isinstance(low, Tensor) and isinstance(high, Tensor)
    return down(low), up(high)
