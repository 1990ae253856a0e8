"""Certify by linear bounds of the margins over the ball."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.certify._local import first_radii
from robustcl.certify._product import product_pairs
from robustcl.certify.bounds.alpha_crown import split_lower_bounds
from robustcl.certify.bounds.linear_bounds import Surroundings
from robustcl.certify.bounds.refined_bounds import LARGEST, check_units, refinable, refined_bounds
from robustcl.certify.claim import Claim, nearest_other_class
from robustcl.certify.graph import Network
from robustcl.certify.image_by_image import certify_each
from robustcl.certify.ops.enclosures import Region
from robustcl.certify.preparation import PreparedModel, ready
from robustcl.certify.rounding import round_up, row_lengths
from robustcl.certify.search import Evaluation, search
from robustcl.certify.verification_problem import VerificationProblem
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError

_CHUNK = 128  # directions held in memory at once
MOST_SPLITS = 8
_FURTHER = 1.03  # the first radius tried with slopes that were tuned, in units of the one without
WIDER = 1.15  # and the first with regions of more layers refined


def crown(
    classifier: Classifier,
    images: Tensor,
    *,
    norm: CertifiedNorm = "l2",
    steps: int = 8,
    slope_steps: int = 0,
    splits: int = 0,
    units: int | None = None,
    prepared: PreparedModel | None = None,
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
            about three bounds. It pays in small networks.
        splits: Numbers inside the network by whose signs the ball is then split into 2^splits
            parts, for small networks with kinks; it needs slope_steps.
        units: Numbers of a layer up to which each that is undecided is bounded by lines of its own;
            None for all layers where that is affordable (see `refined_bounds`).
        prepared: `traced(classifier, norm=norm, method="crown")`, once per model.

    Returns:
        A deterministic claim about the model. `steps` below 2 are refused.

    Reference:
        Zhang et al., Efficient Neural Network Robustness Certification (CROWN), NeurIPS 2018; Xu et
        al., Fast and Complete, ICLR 2021, for the ascent.
    """
    effort = Effort(steps, slope_steps, splits, units)
    model = ready(classifier, norm=norm, method="crown", prepared=prepared)

    def claim(task: VerificationProblem) -> Claim:
        radii = crown_pairs(task, product_pairs(task), first_radii(task), effort)
        radius, rival = nearest_other_class(radii, task.predicted)
        return Claim("crown", model.norm, "deterministic", "model", task.predicted, radius, rival)

    return certify_each(model, images, claim)


@dataclass(frozen=True)
class Effort:
    """State how hard `crown` tries.

    Args:
        steps: Radii tried per image.
        slope_steps: Steps of the ascent on slopes.
        splits: Numbers by whose signs the ball is split.
        units: Numbers of a layer up to which each is bounded by lines of its own.

    Raises:
        InputError: When the search could not end, or splits are too many, or not priced.
    """

    steps: int = 8
    slope_steps: int = 0
    splits: int = 0
    units: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise InputError(f"steps {self.steps} is below 2; try 8")
        check_units(self.units)
        if self.slope_steps < 0:
            raise InputError(f"slope_steps {self.slope_steps} is below 0; try 10, or 0 for none")
        if not 0 <= self.splits <= MOST_SPLITS or (self.splits and not self.slope_steps):
            raise InputError(
                f"splits {self.splits} with slope_steps {self.slope_steps}; use at most "
                f"{MOST_SPLITS}, and slope_steps of 10 or more"
            )


def crown_pairs(
    task: VerificationProblem, known: Tensor, ceiling: Tensor, effort: Effort
) -> Tensor:
    """Raise the radii of the other classes that bind, as far as linear bounds prove it.

    Args:
        task: What is to be proved.
        known: (B, K) radii known already, by any method.
        ceiling: (B, K) from `first_radii`.
        effort: How hard to try.

    Returns:
        (B, K) radii inside which class j cannot overtake, at least `known`.
    """
    steps, units = effort.steps, effort.units

    def evaluate(units: int | None) -> Evaluation:
        plain = Effort(units=units)
        return lambda rows, radius, others: margins_at(task, rows, radius, others, plain)

    found = staged_search(task.traced.fast, evaluate, task.margins, ceiling, known, steps, units)
    if not effort.slope_steps:
        return found

    def tuned(rows: Tensor, radius: Tensor, others: Tensor) -> Tensor:
        return margins_at(task, rows, radius, others, effort)

    first = _FURTHER * _least(found, ceiling)
    again = search(tuned, task.margins, ceiling, found, steps=max(2, steps // 2), first=first)
    return torch.maximum(again, found)


def staged_search(
    network: Network,
    evaluate: Callable[[int | None], Evaluation],
    start: Tensor,
    ceiling: Tensor,
    known: Tensor,
    steps: int,
    units: int | None,
) -> Tensor:
    """Search with regions that cost little, then go on from there with all that are affordable.

    Args:
        network: Whose regions are refined.
        evaluate: `units` as in `crown` to lower bounds as in `search`.
        start: (B, K) margins at radius 0.
        ceiling: (B, K) as in `search`.
        known: (B, K) radii known already.
        steps: Radii tried per image in each stage.
        units: As in `crown`.

    Returns:
        (B, K) radii inside which class j cannot overtake, at least `known`.
    """
    few = LARGEST if units is None else min(LARGEST, units)
    found = torch.maximum(search(evaluate(few), start, ceiling, known, steps=steps), known)
    if len(refinable(network, units)) == len(refinable(network, few)):
        return found
    # The regions are most of the cost now, so that every other class is tried at every radius.
    again = search(
        evaluate(units),
        start,
        ceiling,
        found,
        steps=steps,
        first=WIDER * _least(found, ceiling),
        nearest=found.shape[1],
    )
    return torch.maximum(again, found)


def _least(found: Tensor, ceiling: Tensor) -> Tensor:
    return found.masked_fill(torch.isinf(ceiling), torch.inf).amin(dim=1)


def margins_at(
    task: VerificationProblem, rows: Tensor, radius: Tensor, others: Tensor, effort: Effort
) -> Tensor:
    """Bound margins from below over balls.

    Args:
        task: What is to be proved.
        rows: (R,) images.
        radius: (R,) of their balls.
        others: (R, M) classes.
        effort: Its slope_steps, splits and units.

    Returns:
        (R, M) lower bounds.
    """
    found = torch.zeros(others.shape, dtype=torch.float64, device=radius.device)
    network, norm = task.traced.fast, task.traced.norm
    for part in torch.arange(len(rows)).split(max(1, _CHUNK // others.shape[1])):
        image, rival = rows[part], others[part]
        center = [_picked(region, image) for region in task.center]
        images, radii = task.images[image], radius[part] * round_up(1.0)
        regions = refined_bounds(network, images, radii, center, norm=norm, largest=effort.units)
        around = Surroundings(network, center, regions, {})
        directions = task.directions[image[:, None], rival]
        is_bent = bool((task.bends > 0).any())
        if is_bent:
            directions = torch.cat([directions, task.unit[image][:, None]], dim=1)
        lower = split_lower_bounds(
            around,
            directions,
            images,
            radii,
            norm=norm,
            steps=effort.slope_steps,
            splits=effort.splits,
        )
        # The lines bound the smooth form of the network, which the true one may leave by a leap.
        leap = task.traced.bound.leap * round_up(1.0)
        along = lower[:, -1] - leap if is_bent else None
        bent = task.bent(regions[-1].reach, image, along)
        lost = row_lengths(task.directions[image]) * leap
        constants = (task.constants[image] - bent - lost).gather(1, rival)
        found[part] = lower[:, : rival.shape[1]] + constants
    return found


def _picked(region: Region, rows: Tensor) -> Region:
    return Region(region.low[rows], region.high[rows], region.reach[rows])
