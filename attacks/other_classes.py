"""Order the classes that an attack may aim at."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustcl.attacks.nearest_on_plane import nearest_on_plane
from robustcl.attacks.steps import value_and_gradient
from robustcl.attacks.surrogate import surrogate
from robustcl.core.batching import fixed_size
from robustcl.core.objectives import Objective
from robustcl.core.threat import Threat, perturbation_norm

LEAP = 1e-6  # pixel units beyond the linearized boundary, so that a tie is left as well


def others_by_score(
    objective: Objective, images: Tensor, *, batch_size: int | None = None
) -> Tensor:
    """Order the other classes of each image by their scores, the highest first.

    Args:
        objective: The objective, for these images.
        images: (B, C, H, W).
        batch_size: Images per model call; B by default.

    Returns:
        (B, K - 1) classes; (B, 0) without a classifier or targets.
    """
    if objective.classifier is None or objective.targets is None:
        return torch.zeros(len(images), 0, dtype=torch.int64, device=images.device)
    with torch.no_grad():
        scores = fixed_size(objective.scores, images, batch_size=batch_size or len(images))
    targets = objective.targets.to(scores.device)
    return scores.scatter(1, targets[:, None], -torch.inf).argsort(dim=1, descending=True)[:, :-1]


def logit_differences(objective: Objective, others: Tensor) -> list[Callable[[Tensor], Tensor]]:
    """Return the lead of each other class, or the margin alone where there is none.

    Args:
        objective: The objective, for B images.
        others: (B, R) classes.

    Returns:
        R functions of images, or 1.
    """
    if not others.shape[1]:
        return [objective.margin]
    return [surrogate(objective, "margin-targeted", row) for row in others.T]


def others_by_distance(
    objective: Objective, images: Tensor, threat: Threat, *, most: int = 9
) -> tuple[Tensor, Tensor]:
    """Order the other classes of each image by the distance of their linearized boundaries.

    Args:
        objective: The objective, for these images.
        images: (B, C, H, W) in the box.
        threat: Norm and box.
        most: Other classes of the highest scores at the image that are looked at, one gradient
            each.

    Returns:
        (B, R) classes, R <= `most`, the nearest first, and their (B, R) distances; (B, 0) without
        a classifier or targets.
    """
    others = others_by_score(objective, images)[:, :most]
    if not others.shape[1]:
        return others, torch.zeros(len(images), 0, device=images.device)
    steps = [boundary_step(lead, images, threat) for lead in logit_differences(objective, others)]
    stacked = torch.stack([distance for _, distance in steps], dim=1)
    order = stacked.argsort(dim=1, stable=True)
    return others.gather(1, order), stacked.gather(1, order)


def boundary_step(
    loss: Callable[[Tensor], Tensor], points: Tensor, threat: Threat
) -> tuple[Tensor, Tensor]:
    """Find the least move that makes a linearized function positive.

    Args:
        loss: (B, ...) to (B,), each row by itself.
        points: (B, ...) in the box.
        threat: Norm and box.

    Returns:
        (B, ...) moves, and their (B,) float64 norms, infinite where the box does not let the
        linearized function become positive; the move is then the best there is.
    """
    value, gradient = value_and_gradient(loss, points)
    slope = torch.linalg.vector_norm(gradient.double().flatten(1), dim=1)
    rise = -value.double() + LEAP * slope
    move = nearest_on_plane(points, gradient, rise, norm=threat.norm, box=threat.box)
    gained = (gradient.double() * move.double()).flatten(1).sum(dim=1)
    reached = (slope > 0) & (gained >= rise - 1e-4 * rise.abs())
    return move, torch.where(reached, perturbation_norm(move, threat.norm), torch.inf)
