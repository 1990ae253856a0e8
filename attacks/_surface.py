"""Attack from points on the surface of the ball."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robustcl.attacks.ascent import AscentState, ascend, nothing_yet
from robustcl.attacks.other_classes import logit_differences, others_by_score
from robustcl.attacks.results import Candidates
from robustcl.attacks.steps import column, step_upwards, value_and_gradient
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective
from robustcl.core.seeds import example_noise, example_seed
from robustcl.core.threat import Threat

_SHARES = (0.25, 0.05)  # steps in units of eps: of each climb, and of the last one


def surface(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    steps: int = 12,
    starts_toward: int = 3,
    starts_random: int = 2,
    seeds: Sequence[int] | None = None,
) -> Candidates:
    """Climb from several points as far out as the ball reaches, and once more from the best.

    Made for balls in which a certificate says that nothing is to be found: where it is wrong, it
    is wrong near the surface first. Starts lie where a full step along the gradient leads, of the
    margin and then of the leads of the next other classes, and at random on the sphere (Linf: in
    corners).

    Args:
        objective: What is raised.
        images: (B, C, H, W) in the box.
        threat: The ball, with one budget or one per image.
        steps: Steps from each start, and of the last climb.
        starts_toward: Starts along gradients; more than there are other classes are not made.
        starts_random: Random starts.
        seeds: One seed per image; 0, 1, ... by default.

    Returns:
        The best points and the gradients spent.

    Raises:
        InputError: When there are no steps or no starts.
    """
    if steps < 1 or starts_toward < 0 or starts_random < 0 or not starts_toward + starts_random:
        raise InputError(
            f"surface with steps={steps}, starts_toward={starts_toward}, "
            f"starts_random={starts_random} does nothing; use 1 or more steps and starts"
        )
    chosen = list(range(len(images)) if seeds is None else seeds)
    others = others_by_score(objective, images)
    losses = [objective.margin, *logit_differences(objective, others[:, 1:])][:starts_toward]
    losses = losses[: max(1, others.shape[1])] if starts_toward else []
    begun = [(loss, _along(loss, images, threat)) for loss in losses]
    for number in range(starts_random):
        begun.append((objective.margin, _drawn(images, threat, chosen, number)))
    best = nothing_yet(images)
    for loss, start in begun:
        best = ascend(AscentState(objective, loss, images, threat, steps, _SHARES[0]), start, best)
    last = AscentState(objective, objective.margin, images, threat, steps, _SHARES[1])
    best = ascend(last, best.points, best)
    each = steps * (len(begun) + 1) + len(losses)
    return Candidates(best.points, torch.full((len(images),), each, dtype=torch.int64))


def _along(loss: Callable[[Tensor], Tensor], images: Tensor, threat: Threat) -> Tensor:
    _, gradient = value_and_gradient(loss, images)
    return _far_along(gradient, images, threat)


def _drawn(images: Tensor, threat: Threat, seeds: Sequence[int], number: int) -> Tensor:
    mixed = [example_seed(seed, number, "surface") for seed in seeds]
    noise = example_noise(mixed, images.shape[1:], dtype=images.dtype, device=images.device)
    return _far_along(noise, images, threat)


def _far_along(direction: Tensor, images: Tensor, threat: Threat) -> Tensor:
    upwards = step_upwards(direction, images, images, threat)
    return threat.project(images, images + column(threat.radii(images), images) * upwards)
