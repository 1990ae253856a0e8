"""Attack by projected gradient ascent."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from robustcl.attacks.ascent import AscentState, ascend, nothing_yet
from robustcl.attacks.other_classes import others_by_score
from robustcl.attacks.results import Candidates
from robustcl.attacks.steps import random_start
from robustcl.attacks.surrogate import surrogate
from robustcl.core.choices import Norm
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective
from robustcl.core.threat import Threat

L1_STEP = 0.25  # in units of eps: smaller steps do not part the pixels that matter from the others


def pgd(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    steps: int = 40,
    restarts: int = 2,
    step_size: float = 0.0,
    seeds: Sequence[int] | None = None,
) -> Candidates:
    """Ascend the objective within the threat and keep the best point of all iterations.

    Steps follow the sign of the gradient for Linf, its direction for L2, and the signs of its
    largest entries for L1 (see `ascend`). The first run starts at
    the image itself. Where the objective has a classifier, each further run aims at one other class
    class, the next highest at the image: the nearest boundary is often not the runner-up's. Where
    it has none, or no other class is left, runs start at random in the ball, with a seed per
    image. So does an image whose loss is flat where a run begins, as no step would lead away from
    there.

    Args:
        objective: What is raised.
        images: (B, C, H, W) in the box.
        threat: The ball, with one budget or one per image.
        steps: Steps per run.
        restarts: Runs.
        step_size: Step in units of eps; 0 for 2.5/steps, and in L1 no less than 0.25.
        seeds: One seed per image; 0, 1, ... by default.

    Returns:
        The best points and the gradients spent. Runs without steps, and steps that cannot cross
        the ball (steps x step_size below 2 eps), are refused.

    Reference:
        Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018.
    """
    share = step_share(steps, restarts, step_size, threat.norm)
    others, best = others_by_score(objective, images), nothing_yet(images)
    chosen = list(range(len(images)) if seeds is None else seeds)
    for run in range(restarts):
        drawn = partial(random_start, images, threat, chosen, run=run, purpose="pgd")
        start, loss = images, objective.margin
        if 0 < run < others.shape[1]:
            loss = surrogate(objective, "margin-targeted", others[:, run])
        elif run:
            start = drawn()
        climb = AscentState(objective, loss, images, threat, steps, share)
        best = ascend(climb, start, best, aside=drawn)
    spent = torch.full((len(images),), steps * restarts, dtype=torch.int64)
    return Candidates(best.points, spent)


def step_share(steps: int, restarts: int, step_size: float, norm: Norm) -> float:
    """Choose the size of a step, and refuse steps that cannot cross the ball, or none.

    Args:
        steps: Steps per run.
        restarts: Runs.
        step_size: Step in units of eps; 0 for 2.5/steps, in L1 no less than a quarter.
        norm: Of the ball.

    Returns:
        The step in units of eps.

    Raises:
        InputError: When there are no steps or runs, or steps x step is below 2.
    """
    share = step_size or max(2.5 / max(steps, 1), L1_STEP if norm == "l1" else 0.0)
    if steps < 1 or restarts < 1:
        raise InputError(f"pgd with steps={steps}, restarts={restarts} does nothing; use 1 or more")
    if steps * share < 2.0:
        raise InputError(
            f"pgd with {steps} steps of {share:g} eps cannot cross the ball; "
            "need steps x step_size >= 2, so raise one of them"
        )
    return share
