"""Ascend a loss by projected gradient steps of one size."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.attacks.steps import column, step_upwards
from robustcl.core.objectives import Objective
from robustcl.core.threat import Threat


@dataclass(frozen=True, eq=False)
class BestSoFar:
    """Hold the point of the highest margin of each image.

    Args:
        points: (B, ...).
        margins: (B,).
    """

    points: Tensor
    margins: Tensor


@dataclass(frozen=True, eq=False)
class AscentState:
    """Say what is climbed.

    Args:
        objective: Its margin decides.
        loss: What is raised, (B, ...) to (B,).
        images: (B, ...) clean images.
        threat: The ball.
        steps: Steps.
        share: Step in units of the budget.
    """

    objective: Objective
    loss: Callable[[Tensor], Tensor]
    images: Tensor
    threat: Threat
    steps: int
    share: float


def nothing_yet(images: Tensor) -> BestSoFar:
    """Begin with nothing.

    Args:
        images: (B, ...) images.

    Returns:
        The images, with margins below all others.
    """
    margins = torch.full((len(images),), -torch.inf, dtype=images.dtype, device=images.device)
    return BestSoFar(images.detach().clone(), margins)


def ascend(
    climb: AscentState, start: Tensor, best: BestSoFar, *, aside: Callable[[], Tensor] | None = None
) -> BestSoFar:
    """Climb from a start, and keep the best point of all.

    Steps follow the sign of the gradient for Linf, its direction for L2, and for L1 the signs of
    its largest entries, at first of a fifth of all pixels.

    Args:
        climb: What is climbed.
        start: (B, ...) points in the ball.
        best: What is known.
        aside: Gives (B, ...) points in the ball; images whose loss has no gradient at the start,
            from where no step leads anywhere, go on there.

    Returns:
        The higher of what is known and what was met.
    """
    points, radii = start.detach(), column(climb.threat.radii(climb.images), climb.images)
    for step in range(climb.steps + 1):
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            value = climb.loss(points)
            last = step == climb.steps
            gradient = None if last else torch.autograd.grad(value.sum(), points)[0]
        points, margin = points.detach(), value.detach()
        if climb.loss is not climb.objective.margin:
            with torch.no_grad():
                margin = climb.objective.margin(points)
        better = margin > best.margins
        best = BestSoFar(
            torch.where(column(better, points), points, best.points),
            torch.where(better, margin, best.margins),
        )
        if gradient is None:
            break
        upwards = step_upwards(gradient.nan_to_num(), points, climb.images, climb.threat)
        move = climb.share * radii * upwards
        points = climb.threat.project(climb.images, points + move)
        flat = (move == 0).flatten(1).all(dim=1)
        if step == 0 and aside is not None and bool(flat.any()):
            points = torch.where(column(flat, points), aside(), points)
    return best
