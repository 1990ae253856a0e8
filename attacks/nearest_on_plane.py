"""Find the least perturbation that a linear function with a pixel box asks for."""

import torch
from torch import Tensor

from robustcl.core.choices import Norm


def nearest_on_plane(
    images: Tensor,
    gradient: Tensor,
    rise: Tensor,
    *,
    norm: Norm,
    box: tuple[float, float] | None,
) -> Tensor:
    """Return the smallest v, in the norm, with g.v = rise and x + v in the box.

    Exact, up to rounding in float64. In L1 the pixels of the largest |g| move as far as the box
    lets them, one after the other. Else each pixel moves along g until it meets the box, by
    min(s b_i, room_i) with b = |g| for L2 and b = 1 for Linf. The rise is then a concave piecewise
    linear function of s, with kinks at room_i / b_i; the solution lies between two of them.

    Args:
        images: (B, ...) images x in the box.
        gradient: (B, ...) g.
        rise: (B,) what is to be gained; nothing is moved where it is <= 0.
        norm: 'l2', 'linf' or 'l1'.
        box: Pixel range, or None.

    Returns:
        (B, ...) perturbations. Where the box has no point on the plane, v gains all that can be
        gained.

    Reference:
        Croce and Hein, Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary
        Attack, ICML 2020, (3).
    """
    flat = gradient.flatten(1).double()
    # The largest slope becomes 1, so that no square under- or overflows.
    scale = flat.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    flat = flat / scale
    slope = flat.abs()
    if box is None:
        room = torch.full_like(slope, torch.inf)
    else:
        start = images.flatten(1).double()
        room = torch.where(flat > 0, box[1] - start, start - box[0]).clamp_min(0.0)
    wanted = (rise.double()[:, None] / scale).clamp_min(0.0)
    if norm == "l1":
        return (flat.sign() * _greedy(slope, room, wanted)).view_as(gradient).to(images.dtype)
    weight = slope if norm == "l2" else (slope > 0).double()
    size = _least(slope, weight, room, wanted)
    move = torch.minimum(size * weight, room)
    move = torch.where(weight > 0, move, torch.zeros_like(move))
    return (flat.sign() * move).view_as(gradient).to(images.dtype)


def _least(slope: Tensor, weight: Tensor, room: Tensor, wanted: Tensor) -> Tensor:
    # (B, 1) the least s with sum_i slope_i min(s weight_i, room_i) >= wanted.
    kinks = torch.where(weight > 0, room / weight.clamp_min(1e-300), torch.inf)
    kinks, order = kinks.sort(dim=1)
    gains = torch.where(kinks.isfinite(), (slope * room).gather(1, order), 0.0)
    speeds = (slope * weight).gather(1, order)
    # Before kink i: what the stopped pixels have given, and the speed of those that still move.
    given = gains.cumsum(1) - gains
    speed = speeds.flip(1).cumsum(1).flip(1)
    size = (wanted - given) / speed.clamp_min(1e-300)
    fits = (size <= kinks) & (speed > 0)
    first = fits.double().argmax(dim=1, keepdim=True)
    largest = torch.where(kinks.isfinite(), kinks, 0.0).amax(dim=1, keepdim=True)
    return torch.where(fits.any(dim=1, keepdim=True), size.gather(1, first), largest)


def _greedy(slope: Tensor, room: Tensor, wanted: Tensor) -> Tensor:
    # (B, n) moves of the least sum with sum_i slope_i move_i >= wanted.
    steep, order = slope.sort(dim=1, descending=True, stable=True)
    most = room.gather(1, order)
    gains = torch.where(steep > 0, steep * most, 0.0)
    given = torch.nn.functional.pad(gains.cumsum(dim=1)[:, :-1], (1, 0))
    moves = ((wanted - given) / steep.clamp_min(1e-300)).clamp_min(0.0).minimum(most)
    moves = torch.where(steep > 0, moves, 0.0)
    return torch.zeros_like(slope).scatter(1, order, moves)
