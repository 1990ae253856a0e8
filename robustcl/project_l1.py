"""Project onto the part of an L1 ball that is within the pixel box."""

import torch
from torch import Tensor


def project_l1(
    images: Tensor, candidates: Tensor, radii: Tensor, box: tuple[float, float] | None
) -> Tensor:
    """Return the points of the ball and the box that are nearest to the candidates in L2.

    Each pixel moves towards the candidate by min(max(|d_i| - s, 0), room_i), where room is the way
    to the edge of the box and s >= 0 is the least number for which the moves add up to the radius
    at most. Their sum falls linearly between the kinks |d_i| and |d_i| - room_i, so s is found by
    sorting these, exactly up to rounding in float64. Projecting onto the ball and then cutting by
    the box would leave budget unused.

    Args:
        images: (B, ...) centers, in the box.
        candidates: (B, ...) wished-for images.
        radii: (B,) budgets.
        box: Lowest and highest pixel value; None for no box.

    Returns:
        (B, ...) images, whose distance is within the radius after rounding too.

    Reference:
        Croce and Hein, Mind the Box: l1-APGD for Sparse Adversarial Attacks on Image Classifiers,
        ICML 2021, proposition 2.1.
    """
    start = images.flatten(1).double()
    delta = candidates.flatten(1).double() - start
    size = delta.abs()
    room = torch.full_like(size, torch.inf)
    if box is not None:
        room = torch.where(delta > 0, box[1] - start, start - box[0]).clamp_min(0.0)
    budget = radii.double()[:, None]
    moves = torch.minimum((size - _threshold(size, room, budget)).clamp_min(0.0), room)
    moved = (start + delta.sign() * moves).to(images.dtype)
    if box is not None:
        moved = moved.clamp(*box)
    # Rounding must not add up to more than the budget: no pixel may move farther than it should.
    distance = (moved.double() - start).abs()
    over = (distance.sum(dim=1, keepdim=True) > budget) & (distance > moves)
    moved = torch.where(over, torch.nextafter(moved, images.flatten(1)), moved)
    return moved.view_as(images)


def _threshold(size: Tensor, room: Tensor, budget: Tensor) -> Tensor:
    # (B, 1) the least s >= 0 with sum_i min(max(size_i - s, 0), room_i) <= budget. From the largest
    # kink downwards, a pixel begins to move at size_i and comes to a halt at size_i - room_i.
    kinks = torch.cat([size, (size - room).clamp_min(0.0)], dim=1)
    kinks, order = kinks.sort(dim=1, descending=True)
    moving = torch.where(order < size.shape[1], 1.0, -1.0).to(size).cumsum(dim=1)
    gained = moving[:, :-1] * (kinks[:, :-1] - kinks[:, 1:])
    total = torch.nn.functional.pad(gained.cumsum(dim=1), (1, 0))
    beyond = total > budget
    first = beyond.double().argmax(dim=1, keepdim=True).clamp_min(1)
    before = first - 1
    speed = moving.gather(1, before).clamp_min(1.0)
    least = kinks.gather(1, before) - (budget - total.gather(1, before)) / speed
    return torch.where(beyond.any(dim=1, keepdim=True), least.clamp_min(0.0), 0.0)
