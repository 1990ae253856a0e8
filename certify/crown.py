"""Certify by linear bounds of the margins over the ball."""

import torch
from torch import Tensor

from certify.bounds.dense_norm import round_up
from certify.bounds.lines import Surroundings
from certify.bounds.optimized_lines import optimized_lower_bounds
from certify.bounds.refined_regions import refined_regions
from certify.bounds.regions import Region
from certify.claim import Claim, nearest_rival
from certify.local import first_radii
from certify.problem import Problem, Traced, problem, traced
from certify.product import product_pairs
from certify.search import search
from robustcl.classifier import Classifier
from robustcl.errors import InputError
from robustcl.threat import Norm

CHUNK = 128  # directions held in memory at once
FURTHER = 1.03  # the first radius tried with slopes that were tuned, in units of the one without


def crown(
    classifier: Classifier,
    images: Tensor,
    *,
    norm: Norm = "l2",
    steps: int = 8,
    slope_steps: int = 0,
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
        slope_steps: Steps of gradient ascent on the lines' slopes, at a few more radii; each costs
            about three bounds. It pays in small networks, in Linf above all.
        prepared: `traced(classifier, norm=norm, method="crown")`, once per model.

    Returns:
        A deterministic claim about the model. `steps` below 2 are refused.

    Reference:
        Zhang et al., Efficient Neural Network Robustness Certification (CROWN), NeurIPS 2018; Xu et
        al., Fast and Complete, ICLR 2021, for the ascent.
    """
    check_steps(steps, slope_steps)
    model = prepared or traced(classifier, norm=norm, method="crown")
    task = problem(model, images)
    with torch.no_grad():
        ceiling = first_radii(task)
        radii = crown_pairs(
            task, product_pairs(task), ceiling, steps=steps, slope_steps=slope_steps
        )
    radius, rival = nearest_rival(radii, task.predicted)
    return Claim("crown", model.norm, "deterministic", "model", task.predicted, radius, rival)


def check_steps(steps: int, slope_steps: int = 0) -> None:
    """Refuse a search that could not end.

    Args:
        steps: Radii tried.
        slope_steps: Steps of the ascent.

    Raises:
        InputError: When they are below 2, or below 0.
    """
    if steps < 2:
        raise InputError(f"steps {steps} is below 2; try 8")
    if slope_steps < 0:
        raise InputError(f"slope_steps {slope_steps} is below 0; try 10, or 0 for none")


def crown_pairs(
    task: Problem, known: Tensor, ceiling: Tensor, *, steps: int, slope_steps: int = 0
) -> Tensor:
    """Raise the radii of the rivals that bind, as far as linear bounds prove it.

    Args:
        task: What is to be proved.
        known: (B, K) radii known already, by any method.
        ceiling: (B, K) from `first_radii`.
        steps: Radii tried per image.
        slope_steps: Steps of the ascent on slopes.

    Returns:
        (B, K) radii inside which class j cannot overtake, at least `known`.
    """

    def evaluate(rows: Tensor, radius: Tensor, rivals: Tensor) -> Tensor:
        return margins_at(task, rows, radius, rivals)

    def tuned(rows: Tensor, radius: Tensor, rivals: Tensor) -> Tensor:
        return margins_at(task, rows, radius, rivals, slope_steps=slope_steps)

    found = torch.maximum(search(evaluate, task.margins, ceiling, known, steps=steps), known)
    if not slope_steps:
        return found
    first = FURTHER * found.masked_fill(torch.isinf(ceiling), torch.inf).amin(dim=1)
    again = search(tuned, task.margins, ceiling, found, steps=max(2, steps // 2), first=first)
    return torch.maximum(again, found)


def margins_at(
    task: Problem, rows: Tensor, radius: Tensor, rivals: Tensor, *, slope_steps: int = 0
) -> Tensor:
    """Bound margins from below over balls.

    Args:
        task: What is to be proved.
        rows: (R,) images.
        radius: (R,) of their balls.
        rivals: (R, M) classes.
        slope_steps: Steps of the ascent on slopes.

    Returns:
        (R, M) lower bounds.
    """
    found = torch.zeros(rivals.shape, dtype=torch.float64, device=radius.device)
    network, norm = task.traced.fast, task.traced.norm
    for part in torch.arange(len(rows)).split(max(1, CHUNK // rivals.shape[1])):
        image, rival = rows[part], rivals[part]
        center = [_picked(region, image) for region in task.center]
        images, radii = task.images[image], radius[part] * round_up(1.0)
        regions = refined_regions(network, images, radii, center, norm=norm)
        around = Surroundings(network, center, regions, {})
        directions = task.directions[image[:, None], rival]
        is_bent = bool((task.bends > 0).any())
        if is_bent:
            directions = torch.cat([directions, task.unit[image][:, None]], dim=1)
        lower = optimized_lower_bounds(
            around, directions, images, radii, norm=norm, steps=slope_steps
        )
        bent = task.bent(regions[-1].reach, image, lower[:, -1] if is_bent else None)
        constants = (task.constants[image] - bent).gather(1, rival)
        found[part] = lower[:, : rival.shape[1]] + constants
    return found


def _picked(region: Region, rows: Tensor) -> Region:
    return Region(region.low[rows], region.high[rows], region.reach[rows])
