"""Adapt the steps of a run to how it gets on."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.attacks.steps import FIRST_SHARE, column, free_to_move, pixels_moved, pixels_to_move
from robustcl.core.choices import Norm
from robustcl.core.threat import Threat

RISING = 0.75  # a window in which fewer than this share of the steps rise halves the step
# In L1 the step shrinks unless the best point has come to move fewer pixels than SPARSER of those
# before: then it is set back.
L1_WINDOW, SPARSER, L1_SHRINK, L1_SMALLEST = 0.04, 0.95, 1.5, 0.1


@dataclass(frozen=True, eq=False)
class Slots:
    """Hold what a run knows, for each of S places in the batch; rows are overwritten when one ends.

    Args:
        points: (S, ...) where it is.
        previous: (S, ...) where it was before.
        highest: (S, ...) the point of the highest loss.
        uphill: (S, ...) the gradient there.
        value: (S,) the loss at the last point.
        top: (S,) the highest loss.
        top_before: (S,) the highest loss at the last checkpoint.
        size: (S,) step in units of eps.
        size_before: (S,) step at the last checkpoint.
        pixels: (S,) how many pixels a step in L1 moves.
        pixels_before: (S,) in L1, how many the best point of the last checkpoint had moved.
        rises: (S,) int64 steps since the last checkpoint that raised the loss.
        count: (S,) int64 points evaluated.
    """

    points: Tensor
    previous: Tensor
    highest: Tensor
    uphill: Tensor
    value: Tensor
    top: Tensor
    top_before: Tensor
    size: Tensor
    size_before: Tensor
    pixels: Tensor
    pixels_before: Tensor
    rises: Tensor
    count: Tensor


def checkpoints(steps: int, norm: Norm) -> Tensor:
    """Say after which steps the step is adapted.

    Args:
        steps: Steps of a run.
        norm: The norm.

    Returns:
        (steps + 2,) int64: at each number of steps, those since the last checkpoint if it is one,
        else 0.
    """
    windows = torch.zeros(steps + 2, dtype=torch.int64)
    if norm == "l1":
        often = max(1, int(L1_WINDOW * steps))
        windows[often::often] = often
        return windows
    share, last, gap = 0.22, 0, 0.22
    while share <= 1.0 + 1e-9:
        now = min(math.ceil(share * steps - 1e-9), steps)
        windows[now] = max(windows[now], now - last)
        gap = max(gap - 0.03, 0.06)
        last, share = now, share + gap
    return windows


def empty_slots(image: Tensor, count: int) -> Slots:
    """Make room for runs.

    Args:
        image: (1, ...) any image.
        count: Places in the batch.

    Returns:
        Slots without a run.
    """
    wide = [image.expand(count, *image.shape[1:]).clone() for _ in range(4)]
    flat = [torch.zeros(count, dtype=image.dtype, device=image.device) for _ in range(7)]
    whole = [torch.zeros(count, dtype=torch.int64, device=image.device) for _ in range(2)]
    return Slots(*wide, *flat, *whole)


def begin_run(slots: Slots, place: int, start: Tensor, norm: Norm) -> None:
    """Give a place to a new run.

    Args:
        slots: What is known; changed in place.
        place: The place.
        start: (...) the first point.
        norm: The norm.
    """
    for wide in (slots.points, slots.previous, slots.highest):
        wide[place] = start
    slots.uphill[place] = 0.0
    for flat in (slots.value, slots.top, slots.top_before):
        flat[place] = -torch.inf
    slots.size[place] = slots.size_before[place] = 1.0 if norm == "l1" else 2.0
    slots.pixels_before[place] = start.numel()
    slots.pixels[place] = FIRST_SHARE * start.numel()
    slots.rises[place] = slots.count[place] = 0


def count_in(
    slots: Slots, clean: Tensor, threat: Threat, seen: tuple[Tensor, Tensor], windows: Tensor
) -> Tensor:
    """Count the last point in; at a checkpoint adapt the step, and perhaps go back to the best.

    Args:
        slots: What is known; changed in place.
        clean: (S, ...) the images.
        threat: Norm and box.
        seen: (S,) losses at the last points, and their (S, ...) gradients.
        windows: From `checkpoints`.

    Returns:
        (S, ...) the gradients at the points from which it goes on.
    """
    value, gradient = seen
    slots.rises.add_((value > slots.value) & (slots.count > 0))
    slots.value.copy_(value)
    better = (value > slots.top) | (slots.count == 0)
    wide = column(better, gradient)
    slots.top.copy_(torch.where(better, value, slots.top))
    slots.highest.copy_(torch.where(wide, slots.points, slots.highest))
    slots.uphill.copy_(torch.where(wide, gradient, slots.uphill))
    window = windows[slots.count.clamp(max=len(windows) - 1)]
    sparse = threat.norm == "l1"
    back = _sparser(slots, clean, threat, window > 0) if sparse else _halved(slots, window)
    slots.value.copy_(torch.where(back, slots.top, slots.value))
    wide = column(back, gradient)
    slots.points.copy_(torch.where(wide, slots.highest, slots.points))
    return torch.where(wide, slots.uphill, gradient)


def _halved(slots: Slots, window: Tensor) -> Tensor:
    # Halve the step where few steps rise, or none has led higher since it became what it is.
    due = window > 0
    rare = slots.rises < RISING * window
    stalled = (slots.size == slots.size_before) & (slots.top <= slots.top_before)
    halve = due & (rare | stalled)
    slots.size_before.copy_(torch.where(due, slots.size, slots.size_before))
    slots.top_before.copy_(torch.where(due, slots.top, slots.top_before))
    slots.rises.copy_(torch.where(due, 0, slots.rises))
    slots.size.copy_(torch.where(halve, slots.size / 2.0, slots.size))
    return halve


def _sparser(slots: Slots, clean: Tensor, threat: Threat, due: Tensor) -> Tensor:
    # Set the step back where the best point has become sparser, else let it shrink.
    moved = pixels_moved(slots.highest, clean).to(slots.pixels)
    sparser = due & (moved < SPARSER * slots.pixels_before)
    shrunk = (slots.size / L1_SHRINK).clamp_min(L1_SMALLEST)
    slots.size.copy_(torch.where(due, torch.where(sparser, 1.0, shrunk), slots.size))
    free = free_to_move(slots.uphill, slots.highest, threat.box)
    pixels = pixels_to_move(free, slots.highest, clean).floor().to(slots.pixels)
    slots.pixels.copy_(torch.where(due, pixels, slots.pixels))
    slots.pixels_before.copy_(torch.where(due, moved, slots.pixels_before))
    return sparser
