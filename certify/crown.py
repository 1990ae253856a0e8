"""Certify by linear bounds of the margins over the ball."""

import torch
from torch import Tensor

from certify.bounds.dense_norm import round_up
from certify.bounds.lines import Surroundings, lower_bounds
from certify.bounds.regions import Region, ball_regions
from certify.claim import Claim, nearest_rival
from certify.local import first_radii, open_rivals
from certify.problem import Problem, Traced, problem, traced
from certify.product import product_pairs
from robustcl.classifier import Classifier
from robustcl.errors import InputError
from robustcl.threat import Norm

CHUNK = 512  # directions held in memory at once


def crown(
    classifier: Classifier,
    images: Tensor,
    *,
    norm: Norm = "l2",
    steps: int = 8,
    prepared: Traced | None = None,
) -> Claim:
    """Certify that no perturbation of norm below the radius changes the predicted class.

    Claimed of the real-arithmetic network with the stored weights in eval mode, for all
    perturbations in pixel units, whether or not they leave [0, 1]. Guarantee: deterministic.

    Every margin is bounded from below over a ball by lines (see `lower_bounds`), whose offsets are
    coupled by the L2 reach at every activation; the radius is searched for, and only one at which
    all margins were shown to stay positive is returned.

    Args:
        classifier: A classifier with a prototype, linear or identity head.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2' or 'linf'.
        steps: Radii tried; the cost is proportional to them.
        prepared: `traced(classifier, norm=norm, method="crown")`, once per model.

    Returns:
        A deterministic claim about the model.

    Raises:
        InputError: When `steps` is below 1.

    Reference:
        Zhang et al., Efficient Neural Network Robustness Certification (CROWN), NeurIPS 2018.
    """
    if steps < 1:
        raise InputError(f"steps {steps} is below 1; try 8")
    model = prepared or traced(classifier, norm=norm, method="crown")
    task = problem(model, images)
    with torch.no_grad():
        radii = crown_pairs(task, product_pairs(task), steps=steps)
    radius, rival = nearest_rival(radii, task.predicted)
    return Claim("crown", model.norm, "deterministic", "model", task.predicted, radius, rival)


def crown_pairs(task: Problem, known: Tensor, *, steps: int) -> Tensor:
    """Raise the radii of the rivals that bind, as far as linear bounds prove it.

    Args:
        task: What is to be proved.
        known: (B, K) radii known already, by any method.
        steps: Radii tried per image.

    Returns:
        (B, K) radii inside which class j cannot overtake, at least `known`.
    """
    ceiling = first_radii(task)
    own = torch.nn.functional.one_hot(task.predicted, known.shape[1]).bool()
    low = known.masked_fill(own, torch.inf).amin(dim=1)
    high = torch.maximum(ceiling.amin(dim=1), low)
    best = known
    fall = torch.full_like(low, 0.5)
    for _ in range(steps):
        trial = torch.where(torch.isfinite(high), low + fall * (high - low), low)
        rivals = open_rivals(task, best, ceiling, trial)
        margins = margins_at(task, trial, rivals)
        proved = (margins > 0) | (known.gather(1, rivals) >= trial[:, None])
        proved = proved | (rivals == task.predicted[:, None])
        grown = torch.where(proved, trial[:, None], torch.zeros_like(margins))
        best = best.scatter(1, rivals, torch.maximum(best.gather(1, rivals), grown))
        holds = proved.all(dim=1) & (task.margins.masked_fill(own, torch.inf).amin(dim=1) > 0)
        low, high = torch.where(holds, trial, low), torch.where(holds, high, trial)
    return best


def margins_at(task: Problem, radius: Tensor, rivals: Tensor) -> Tensor:
    """Bound margins from below over balls.

    Args:
        task: What is to be proved.
        radius: (B,) of the balls.
        rivals: (B, M) classes.

    Returns:
        (B, M) lower bounds.
    """
    found = torch.zeros(rivals.shape, dtype=torch.float64, device=radius.device)
    size = max(1, CHUNK // rivals.shape[1])
    network, norm = task.traced.network, task.traced.norm
    for start in range(0, len(radius), size):
        part = slice(start, start + size)
        rows = torch.arange(len(radius), device=radius.device)[part]
        center = [_part(region, part) for region in task.center]
        images, radii = task.images[part], radius[part] * round_up(1.0)
        regions = ball_regions(network, images, radii, center, norm=norm)
        around = Surroundings(network, center, regions, {})
        directions = task.directions[rows[:, None], rivals[part]]
        lower = lower_bounds(around, directions, images, radii, norm=norm)
        bent = _bent(task, regions[-1].reach, rows)
        found[part] = lower + (task.constants[part] - bent).gather(1, rivals[part])
    return found


def _part(region: Region, part: slice) -> Region:
    return Region(region.low[part], region.high[part], region.reach[part])


def _bent(task: Problem, reach: Tensor, rows: Tensor) -> Tensor:
    whole = torch.zeros_like(task.size)
    whole[rows] = reach
    return task.bent(whole)[rows]
