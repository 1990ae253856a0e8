"""Attack by gradient steps on a sphere that is fitted to the boundary."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robustcl.attacks._fmn import LAST_SHARE, cosine, evaluate_points, target_classes
from robustcl.attacks.nearest import Nearest, nearer, none_found
from robustcl.attacks.results import Candidates
from robustcl.attacks.steps import column, no_win, steepest_direction
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective
from robustcl.core.threat import Threat


def ddn(
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
    """Decouple direction and norm: step along the gradient, then set the norm by who has won.

    The norm becomes smaller by the factor 1 - gamma after a point that wins and larger by
    1 + gamma after one that does not. It begins at the linearized boundary, and steps are relative
    to it, where the paper has 1 for both. Runs as in `fmn`.

    Args:
        objective: What is raised.
        images: (B, C, H, W) in the box.
        threat: The box, and the largest L2 budgets that are of interest.
        steps: Steps per run.
        restarts: Runs; more than one per other class and one are not made.
        step_size: First step in units of the norm.
        gamma: Relative change of the norm.
        seeds: Not used, since nothing is random.

    Returns:
        The nearest winning points, the image itself where none was found, and the gradients spent.

    Raises:
        InputError: When the norm is not L2, there are no steps or runs, or gamma is not in (0, 1).

    Reference:
        Rony et al., Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial
        Attacks and Defenses, CVPR 2019, algorithm 1.
    """
    if threat.norm != "l2":
        raise InputError(f"ddn is an attack in l2, not {threat.norm!r}; use fmn")
    if steps < 1 or restarts < 1 or not 0.0 < gamma < 1.0 or step_size <= 0.0:
        raise InputError(
            f"ddn with steps={steps}, restarts={restarts}, gamma={gamma}, step_size={step_size}; "
            "use 1 or more steps and restarts, gamma in (0, 1) and a positive step_size"
        )
    losses, looked = target_classes(objective, images, threat, restarts)
    best = none_found(images)
    for loss in losses:
        best = _run(objective, loss, images, threat, best, (steps, step_size, gamma))
    spent = torch.full((len(images),), looked + steps * len(losses), dtype=torch.int64)
    return Candidates(best.points, spent)


def _run(
    objective: Objective,
    loss: Callable[[Tensor], Tensor],
    images: Tensor,
    threat: Threat,
    best: Nearest,
    schedule: tuple[int, float, float],
) -> Nearest:
    steps, first_share, gamma = schedule
    points, most = images.detach(), threat.radii(images)
    eps = torch.zeros_like(most)
    for step in range(steps):
        value, gradient, margin = evaluate_points(objective, loss, points)
        best = nearer(best, images, points, margin, threat)
        if step:
            eps = eps * torch.where(margin > 0, 1.0 - gamma, 1.0 + gamma)
        else:
            slope = torch.linalg.vector_norm(gradient.double().flatten(1), dim=1)
            eps = (value.abs() / slope).nan_to_num(nan=torch.inf).to(most)
        eps = torch.minimum(eps, most)
        share = cosine(first_share, LAST_SHARE * first_share, step, steps)
        moved = points - images + column(share * eps, images) * steepest_direction(gradient, "l2")
        points = images + column(eps, images) * steepest_direction(moved, "l2")
        points = points if threat.box is None else points.clamp(*threat.box)
    with torch.no_grad():
        margin = no_win(objective.margin(points))
    return nearer(best, images, points, margin, threat)
