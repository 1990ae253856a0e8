"""Certify by linear bounds of the margins over the ball."""

import torch
from torch import Tensor

from certify.bounds.dense_norm import round_up
from certify.bounds.lines import Surroundings, lower_bounds
from certify.bounds.refined_regions import refined_regions
from certify.bounds.regions import Region
from certify.claim import Claim, nearest_rival
from certify.local import first_radii, open_rivals
from certify.problem import Problem, Traced, problem, traced
from certify.product import product_pairs
from robustcl.classifier import Classifier
from robustcl.errors import InputError
from robustcl.threat import Norm

CHUNK = 128  # directions held in memory at once
NEAREST = 2  # rivals whose radius is searched for


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
        A deterministic claim about the model. `steps` below 2 are refused.

    Reference:
        Zhang et al., Efficient Neural Network Robustness Certification (CROWN), NeurIPS 2018.
    """
    check_steps(steps)
    model = prepared or traced(classifier, norm=norm, method="crown")
    task = problem(model, images)
    with torch.no_grad():
        radii = crown_pairs(task, product_pairs(task), steps=steps)
    radius, rival = nearest_rival(radii, task.predicted)
    return Claim("crown", model.norm, "deterministic", "model", task.predicted, radius, rival)


def check_steps(steps: int) -> None:
    """Refuse a search that could not end.

    Args:
        steps: Radii tried.

    Raises:
        InputError: When they are below 2.
    """
    if steps < 2:
        raise InputError(f"steps {steps} is below 2; try 8")


def crown_pairs(task: Problem, known: Tensor, *, steps: int) -> Tensor:
    """Raise the radii of the rivals that bind, as far as linear bounds prove it.

    All rivals are tried at one radius; the radius of the nearest ones is then searched for, and the
    others are tried again at the radius found.

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
    trial = low + 0.5 * (high - low)
    rivals = open_rivals(known, ceiling, high)
    best, margins = _tried(task, known, trial, rivals)
    start = task.margins.gather(1, rivals)
    roots = _parabola(start, start / ceiling.gather(1, rivals), trial[:, None], margins)
    order = roots.argsort(dim=1)[:, :NEAREST]
    nearest = rivals.gather(1, order)
    below = (torch.zeros_like(trial), start.clamp_min(1e-300).gather(1, order).amin(dim=1))
    least = margins.gather(1, order).amin(dim=1).clamp(max=1e300)
    above = (high, -below[1])
    for step in range(steps - 2):
        reached = best.masked_fill(own, torch.inf).gather(1, nearest).amin(dim=1)
        low, held = torch.maximum(low, reached), least > 0
        # The end that stays counts half (the Illinois rule), or the other would creep.
        below = _chosen(held, (trial, least), (below[0], below[1] / 2.0))
        above = _chosen(held, (above[0], above[1] / 2.0), (trial, least))
        high = torch.where(held, high, torch.minimum(high, trial))
        trial = _crossing(below, above)
        if step == 0:
            trial = roots.gather(1, order)[:, 0]
        room = high - low
        trial = torch.minimum(torch.maximum(trial, low + 0.2 * room), low + 0.8 * room)
        best, margins = _tried(task, best, trial, nearest)
        least = margins.amin(dim=1).clamp(max=1e300)
    low = torch.maximum(low, best.masked_fill(own, torch.inf).gather(1, nearest).amin(dim=1))
    return _tried(task, best, low, open_rivals(best, ceiling, low))[0]


Point = tuple[Tensor, Tensor]  # radii and the least margins there


def _chosen(where: Tensor, first: Point, second: Point) -> Point:
    return torch.where(where, first[0], second[0]), torch.where(where, first[1], second[1])


def _crossing(below: Point, above: Point) -> Tensor:
    # The zero of the chord.
    share = below[1] / (below[1] - above[1]).clamp_min(1e-300)
    return below[0] + (above[0] - below[0]) * share.nan_to_num(nan=0.5)


def _parabola(start: Tensor, slope: Tensor, trial: Tensor, margins: Tensor) -> Tensor:
    # The zero of start - slope t - bend t^2 through the margin at the trial.
    bend = ((start - slope * trial - margins) / trial.clamp_min(1e-300) ** 2).clamp_min(0.0)
    roots = 2.0 * start / (slope + (slope**2 + 4.0 * bend * start).sqrt()).clamp_min(1e-300)
    return roots.masked_fill(margins == torch.inf, torch.inf)


def _tried(task: Problem, known: Tensor, trial: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
    # The radii known, raised to `trial` for the rivals that are proved; and the margins there.
    margins = margins_at(task, trial, rivals)
    before = known.gather(1, rivals)
    # The predicted class may fill up the rivals; it, and what is known already, need no proof.
    done = (rivals == task.predicted[:, None]) | (before >= trial[:, None])
    grown = torch.where(margins > 0, trial[:, None], torch.zeros_like(margins))
    raised = known.scatter(1, rivals, torch.maximum(before, grown))
    return raised, margins.masked_fill(done, torch.inf)


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
    network, norm = task.traced.fast, task.traced.norm
    for start in range(0, len(radius), size):
        part = slice(start, start + size)
        rows = torch.arange(len(radius), device=radius.device)[part]
        center = [_part(region, part) for region in task.center]
        images, radii = task.images[part], radius[part] * round_up(1.0)
        regions = refined_regions(network, images, radii, center, norm=norm)
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
