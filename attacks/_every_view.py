"""Attack a multi-view model: through the aggregate, view by view, and from the single view."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from robustcl.attacks._pgd import step_share
from robustcl.attacks.ascent import AscentState, BestSoFar, ascend, nothing_yet
from robustcl.attacks.other_classes import others_by_score
from robustcl.attacks.results import Candidates
from robustcl.attacks.steps import random_start
from robustcl.attacks.surrogate import surrogate
from robustcl.core.classifier import Classifier
from robustcl.core.objectives import Objective, score_margin
from robustcl.core.threat import Threat
from robustcl.models.multi_view import MultiView

ENOUGH = 0.5  # of the view's own margin: a view that has lost by as much is let alone
Loss = Callable[[Tensor], Tensor]


def every_view(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    steps: int = 40,
    restarts: int = 2,
    step_size: float = 0.0,
    seeds: Sequence[int] | None = None,
) -> Candidates:
    """Ascend, one after the other, every loss of a multi-view model, and keep the best point.

    One perturbation of the image is shared by all views. The losses are

    * the margin of the aggregate, and its margins over single other class classes (as `pgd`);
    * the mean over views of each view's own margin, where a view that is lost by a fair amount
      counts no further: for votes, whose aggregate hardly has a gradient, and for the maximum,
      whose gradient is that of one view;
    * the mean over views of the cross-entropy;
    * the margin of the plain classifier: transfer from the single view.

    The margin of the aggregate decides at every step which point is kept, whatever the loss.

    Args:
        objective: What is raised. Any classifier but a `MultiView` is one view, and an objective
            without one, or without targets, has its margin alone.
        images: (B, C, H, W) in the box.
        threat: The ball, with one budget or one per image.
        steps: Steps per run.
        restarts: Runs with the margins of the aggregate; the other losses take one run each.
        step_size: Step in units of eps; 0 for 2.5/steps.
        seeds: One seed per image; 0, 1, ... by default.

    Returns:
        The best points and the gradients spent, in units of one gradient of the whole model. Steps
        that cannot cross the ball are refused.

    Reference:
        Tramer et al., On Adaptive Attacks to Adversarial Example Defenses, NeurIPS 2020.
    """
    share = step_share(steps, restarts, step_size, threat.norm)
    chosen = list(range(len(images)) if seeds is None else seeds)
    runs, whole = _aggregate_losses(objective, images, restarts), steps * restarts
    model, targets = objective.classifier, objective.targets
    if model is not None and targets is not None:
        runs += _view_losses(model, targets, images)
        whole += 2 * steps
        if isinstance(model, MultiView):
            runs.append(partial(_plain_margin, model.single, targets.to(images.device)))
            whole += -(-steps // len(model.views))  # gradients of one view
    best: BestSoFar = nothing_yet(images)
    for number, loss in enumerate(runs):
        drawn = partial(random_start, images, threat, chosen, run=number, purpose="every_view")
        start = drawn() if number and loss is objective.margin else images
        best = ascend(AscentState(objective, loss, images, threat, steps, share), start, best,
                      aside=drawn)  # fmt: skip
    return Candidates(best.points, torch.full((len(images),), whole, dtype=torch.int64))


def _aggregate_losses(objective: Objective, images: Tensor, restarts: int) -> list[Loss]:
    rivals = others_by_score(objective, images)
    aimed = [surrogate(objective, "margin-targeted", row) for row in rivals.T[1:restarts]]
    others = [objective.margin] * (restarts - 1 - len(aimed))
    return [objective.margin, *aimed, *others]


def _view_losses(model: Classifier, targets: Tensor, images: Tensor) -> list[Loss]:
    each = model.per_view if isinstance(model, MultiView) else lambda points: model(points)[None]
    own, rows = targets.to(images.device), len(images)

    def margins(points: Tensor) -> Tensor:
        scores = each(points)
        return score_margin(scores.flatten(0, 1), own.repeat(len(scores))).view(-1, rows)

    with torch.no_grad():
        enough = ENOUGH * margins(images).abs()

    def per_view(points: Tensor) -> Tensor:
        return torch.minimum(margins(points), enough).mean(dim=0)

    def entropy(points: Tensor) -> Tensor:
        scores = each(points)
        found = cross_entropy(scores.flatten(0, 1), own.repeat(len(scores)), reduction="none")
        return found.view(-1, rows).mean(dim=0)

    return [per_view, entropy]


def _plain_margin(single: Classifier, own: Tensor, points: Tensor) -> Tensor:
    return score_margin(single(points), own)
