"""Attack by gradient steps within a ball that is fitted to the boundary."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from robustcl.attacks.nearest import Nearest, nearer, nearest, none_found
from robustcl.attacks.other_classes import logit_differences, others_by_distance
from robustcl.attacks.results import Candidates
from robustcl.attacks.steps import column, no_win, step_upwards, value_and_gradient
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective
from robustcl.core.threat import DUAL_ORDERS, Threat, perturbation_norm

LAST_SHARE = 0.01  # of the first step, by a cosine
LAST_GAMMA = 0.001


def fmn(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    steps: int = 100,
    restarts: int = 2,
    step_size: float = 1.0,
    gamma: float = 0.05,
    seeds: Sequence[int] | None = None,
) -> Candidates:
    """Look for the nearest winning point: ascend, and shrink or grow the ball as points win or not.

    Until a point has won, the ball reaches a little beyond the linearized boundary. The first run
    raises the margin, each further one the lead of another class, the one of the nearest linearized
    boundary first. Unlike the paper's, steps are relative to the present ball and follow the norm's
    own steepest direction, so that they fit images of every size.

    Args:
        objective: What is raised.
        images: (B, C, H, W) in the box.
        threat: The norm, the box, and the largest budgets that are of interest.
        steps: Steps per run.
        restarts: Runs; more than one per other class and one are not made.
        step_size: First step in units of the ball's radius.
        gamma: First relative change of the radius.
        seeds: Not used, since nothing is random.

    Returns:
        The nearest winning points, the image itself where none was found, and the gradients spent.

    Raises:
        InputError: When there are no steps or runs, or gamma is not in (0, 1).

    Reference:
        Pintor et al., Fast Minimum-norm Adversarial Attacks, NeurIPS 2021, algorithm 1.
    """
    if steps < 1 or restarts < 1 or not 0.0 < gamma < 1.0 or step_size <= 0.0:
        raise InputError(
            f"fmn with steps={steps}, restarts={restarts}, gamma={gamma}, step_size={step_size}; "
            "use 1 or more steps and restarts, gamma in (0, 1) and a positive step_size"
        )
    losses, looked = target_classes(objective, images, threat, restarts)
    best = none_found(images)
    for loss in losses:
        best = nearest(best, fit_ball(objective, loss, images, threat, (steps, step_size, gamma)))
    spent = torch.full((len(images),), looked + steps * len(losses), dtype=torch.int64)
    return Candidates(best.points, spent)


def target_classes(
    objective: Objective, images: Tensor, threat: Threat, restarts: int
) -> tuple[list[Callable[[Tensor], Tensor]], int]:
    """Choose what the runs of a minimum-norm attack raise.

    Args:
        objective: The objective, for these images.
        images: (B, C, H, W).
        threat: Norm and box.
        restarts: Runs wanted.

    Returns:
        The margin, then the leads of other classes, the nearest first, and the gradients spent per
        image on ordering them.
    """
    if restarts == 1:
        return [objective.margin], 0
    others, _ = others_by_distance(objective, images, threat)
    if not others.shape[1]:
        return [objective.margin], 0
    return [
        objective.margin,
        *logit_differences(objective, others[:, : restarts - 1]),
    ], others.shape[1]


def cosine(first: float, last: float, step: int, steps: int) -> float:
    """Fall from the first value to the last one along half a cosine.

    Args:
        first: At step 0.
        last: At step `steps`.
        step: The step.
        steps: Their number.

    Returns:
        The value.
    """
    return last + (first - last) * (1.0 + math.cos(math.pi * step / steps)) / 2.0


def evaluate_points(
    objective: Objective, loss: Callable[[Tensor], Tensor], points: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Evaluate a loss with its gradient, and the margin.

    Args:
        objective: The objective, for these points.
        loss: What is raised.
        points: (B, C, H, W).

    Returns:
        (B,) values, (B, C, H, W) gradients and (B,) margins.
    """
    value, gradient = value_and_gradient(loss, points)
    if loss is objective.margin:
        return value, gradient, value
    with torch.no_grad():
        return value, gradient, no_win(objective.margin(points))


def fit_ball(
    objective: Objective,
    loss: Callable[[Tensor], Tensor],
    images: Tensor,
    threat: Threat,
    schedule: tuple[int, float, float],
    start: Nearest | None = None,
) -> Nearest:
    """Make one run of the attack.

    Args:
        objective: Its margin decides.
        loss: What is raised.
        images: (B, C, H, W).
        threat: Norm, box and largest budgets.
        schedule: Steps, first step in units of the ball, first relative change of the ball.
        start: Winning points to begin at; the images by default, as where none has won.

    Returns:
        The nearest winning points, those of the start included.
    """
    steps, first_share, first_gamma = schedule
    own = start or none_found(images)
    points, eps = own.points, own.norms
    for step in range(steps):
        value, gradient, margin = evaluate_points(objective, loss, points)
        own = nearer(own, images, points, margin, threat)
        gamma = cosine(first_gamma, LAST_GAMMA, step, steps)
        fallen = torch.minimum(eps * (1.0 - gamma), own.norms)
        dual = DUAL_ORDERS[threat.norm]
        slope = torch.linalg.vector_norm(gradient.double().flatten(1), dual, dim=1)
        reach = perturbation_norm(points - images, threat.norm) + value.abs() / slope
        grown = torch.where(own.norms.isfinite(), eps, reach) * (1.0 + gamma)
        eps = torch.where(margin > 0, fallen, grown)
        eps = torch.minimum(eps.nan_to_num(nan=torch.inf), threat.radii(images).double())
        ball = replace(threat, eps=eps)
        share = cosine(first_share, LAST_SHARE * first_share, step, steps)
        upwards = step_upwards(gradient, points, images, threat)
        move = column(share * eps, images).to(images) * upwards
        points = ball.project(images, points + move)
    with torch.no_grad():
        margin = no_win(objective.margin(points))
    return nearer(own, images, points, margin, threat)
