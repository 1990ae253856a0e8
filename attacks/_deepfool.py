"""Attack by steps to the nearest of the linearized boundaries."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from robustcl.attacks.nearest import ENDLESS, Nearest, nearer, none_found
from robustcl.attacks.other_classes import boundary_step, logit_differences, others_by_score
from robustcl.attacks.results import Candidates
from robustcl.attacks.steps import column, no_win
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective
from robustcl.core.threat import Threat


def deepfool(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    steps: int = 50,
    others: int = 0,
    overshoot: float = 0.02,
    seeds: Sequence[int] | None = None,
) -> Candidates:
    """Step to the nearest linearized boundary, pixel box included, until a point wins.

    Each step has one gradient per other class; where the objective has no classifier or targets it
    has one of the margin. Unlike in the paper the pixel box is part of the projection, instead of
    a cut after it.

    Args:
        objective: What is raised.
        images: (B, C, H, W) in the box.
        threat: The norm and the box. Steps heed no budget: `run` pulls what lies beyond back.
        steps: Most steps.
        others: Other classes that are looked at, those of the highest scores at the image; 0 for
            all.
        overshoot: By which share of itself a perturbation is lengthened before it is tried.
        seeds: Not used, since nothing is random.

    Returns:
        The winning points, the image itself where none was found; gradients are those until then
        (who has won stays in the batch, which keeps its shape, but is not counted).

    Raises:
        InputError: When the norm is L1, there are no steps, or other classes or overshoot are
            negative.

    Reference:
        Moosavi-Dezfooli et al., DeepFool: a Simple and Accurate Method to Fool Deep Neural
        Networks, CVPR 2016, algorithm 2 and (10).
    """
    if threat.norm == "l1":
        raise InputError("deepfool is an attack in l2 and linf; in l1 its steps overshoot, use fmn")
    if steps < 1 or others < 0 or overshoot < 0.0:
        raise InputError(
            f"deepfool with steps={steps}, rivals={others}, overshoot={overshoot}; use 1 or more "
            "steps, and rivals and overshoot of 0 or more"
        )
    classes = others_by_score(objective, images)
    losses = logit_differences(objective, classes[:, :others] if others else classes)
    best, spent = fool(objective, losses, images, threat, steps=steps, overshoot=overshoot)
    return Candidates(best.points, spent)


def fool(
    objective: Objective,
    losses: Sequence[Callable[[Tensor], Tensor]],
    images: Tensor,
    threat: Threat,
    *,
    steps: int,
    overshoot: float,
) -> tuple[Nearest, Tensor]:
    """Step to the nearest of some linearized boundaries until the objective is won.

    Args:
        objective: Its margin decides.
        losses: Functions of images whose zeros are the boundaries.
        images: (B, C, H, W) in the box.
        threat: Norm and box.
        steps: Most steps.
        overshoot: By which share of itself a perturbation is lengthened before it is tried.

    Returns:
        The winning points, and the (B,) gradients spent until then.
    """
    points, best = images.detach(), none_found(images)
    spent = torch.zeros(len(images), dtype=torch.int64)
    for step in range(steps + 1):
        tried = images + (1.0 + overshoot) * (points - images)
        tried = tried if threat.box is None else tried.clamp(*threat.box)
        with torch.no_grad():
            margin = no_win(objective.margin(tried))
        best = nearer(best, images, tried, margin, replace(threat, eps=ENDLESS))
        open_ = ~(margin > 0) & best.norms.isinf()
        if step == steps or not bool(open_.any()):
            break
        spent += len(losses) * open_.cpu()
        pairs = [boundary_step(loss, points, threat) for loss in losses]
        nearest = torch.stack([distance for _, distance in pairs]).argmin(dim=0)
        moves = torch.stack([move for move, _ in pairs])
        chosen = moves[nearest, torch.arange(len(images), device=images.device)]
        points = torch.where(column(open_, images), points + chosen, points)
    return best, spent
