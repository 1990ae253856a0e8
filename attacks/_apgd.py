"""Attack by projected gradient ascent with momentum and adaptive steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.attacks.adaptive_step import Slots, begin_run, checkpoints, count_in, empty_slots
from robustcl.attacks.other_classes import others_by_score
from robustcl.attacks.results import Candidates
from robustcl.attacks.steps import column, no_win, random_start, step_upwards, value_and_gradient
from robustcl.attacks.surrogate import check_loss, surrogate
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective
from robustcl.core.threat import Threat

MOMENTUM = 0.75  # weight of the new step, where the rest repeats the last move
_RIVALS = 9


def apgd(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    loss: str = "margin",
    steps: int = 100,
    restarts: int = 0,
    seeds: Sequence[int] | None = None,
    batch_size: int = 128,
) -> Candidates:
    """Ascend a loss by steps that start at 2 eps and are halved, per image, when they stall.

    In L1 steps start at eps and move a fifth of all pixels, later as many as two thirds of those of
    the best point; budgets larger than eps, by which the paper's version begins, are not used.

    Every run starts at random, with a seed per image and run. An image is attacked until it is
    won: then its place in the batch goes to the next one. Model calls keep the one shape
    `batch_size`, and an image's runs come one after the other, so neither its verdict nor its
    gradients depend on the others.

    Args:
        objective: What is raised; its margin decides, whichever the loss.
        images: (B, C, H, W) in the box.
        threat: The ball, with one budget or one per image.
        loss: 'margin' for any objective; 'margin-targeted', 'ce', 'dlr' or 'dlr-targeted' where
            there are a classifier and targets. A targeted loss aims each run at another other
            class, the highest at the image first.
        steps: Steps per run.
        restarts: Runs; 0 for one, or with a targeted loss for one per other class up to nine.
        seeds: One seed per image; 0, 1, ... by default.
        batch_size: Images per model call.

    Returns:
        The first point that wins, else the one of the highest margin; gradients are those until
        then, one per point at which the loss was evaluated.

    Raises:
        InputError: When there are no steps, or the objective does not give the loss.

    Reference:
        Croce and Hein, Reliable Evaluation of Adversarial Robustness, ICML 2020, algorithm 1; for
        L1 the same authors' Mind the Box, ICML 2021, algorithm 1.
    """
    if steps < 1 or restarts < 0 or batch_size < 1:
        raise InputError(
            f"apgd with steps={steps}, restarts={restarts}, batch_size={batch_size} does nothing; "
            "use 1 or more steps and images per call, and 0 or more restarts"
        )
    check_loss(objective, loss)
    others = others_by_score(objective, images, batch_size=batch_size)
    if not loss.endswith("-targeted"):
        others = others[:, :0]
    runs = restarts or max(1, min(_RIVALS, others.shape[1]))
    job = ApgdJob(objective, images, threat, loss, others, steps, runs, "apgd")
    return ascend_by_apgd(
        job, list(range(len(images)) if seeds is None else seeds), batch_size=batch_size
    )


@dataclass(frozen=True, eq=False)
class ApgdJob:
    """Hold what a climb needs.

    Args:
        objective: What is raised, for N images.
        images: (N, C, H, W).
        threat: The ball.
        loss: The loss.
        others: (N, R) classes at which the runs of a targeted loss aim.
        steps: Steps per run.
        runs: Runs per image.
        purpose: What the random starts are for.
        stops: Whether an image is left as soon as it is won.
    """

    objective: Objective
    images: Tensor
    threat: Threat
    loss: str
    others: Tensor
    steps: int
    runs: int
    purpose: str
    stops: bool = True


def ascend_by_apgd(job: ApgdJob, seeds: Sequence[int], *, batch_size: int) -> Candidates:
    """Run APGD on all images, as many at a time as a batch holds.

    Args:
        job: What is to be done.
        seeds: One seed per image.
        batch_size: Images per model call.

    Returns:
        The best points.
    """
    images, device = job.images, job.images.device
    found = images.detach().clone()
    margins = torch.full((len(images),), -torch.inf, dtype=images.dtype, device=device)
    spent = torch.zeros(len(images), dtype=torch.int64)
    waiting = [(row, 0) for row in range(len(images))][::-1]  # images and runs; the last is next
    places: list[tuple[int, int] | None] = [None] * batch_size
    windows = checkpoints(job.steps, job.threat.norm).to(device)
    slots = empty_slots(images[:1].detach(), batch_size)
    while waiting or any(place is not None for place in places):
        _occupy(job, seeds, places, waiting, slots)
        inputs = _slot_inputs(job, places, device)
        done = won = torch.zeros_like(inputs.busy)
        while not bool(done.any()):
            value, gradient, margin = _evaluate(inputs, job.loss, slots.points)
            rows = inputs.rows[inputs.busy]
            spent[rows.cpu()] += 1
            better = margin[inputs.busy] > margins[rows]
            margins[rows[better]] = margin[inputs.busy][better]
            found[rows[better]] = slots.points[inputs.busy][better]
            won = (margin > 0) & inputs.busy & job.stops
            done = won | (inputs.busy & (slots.count >= job.steps))
            seen = (value, gradient)
            _step(slots, inputs, count_in(slots, inputs.clean, inputs.threat, seen, windows))
        for place in torch.nonzero(done)[:, 0].tolist():
            row, run = places[place] or (0, 0)
            places[place] = None
            if run + 1 < job.runs and not bool(won[place]):
                waiting.insert(0, (row, run + 1))
    return Candidates(found, spent)


@dataclass(frozen=True, eq=False)
class _SlotInputs:
    # What stays the same until a place in the batch is given to another image.
    rows: Tensor
    busy: Tensor  # places that hold an image; the others repeat one, so that the shape stays
    clean: Tensor
    threat: Threat
    objective: Objective
    raised: Callable[[Tensor], Tensor]


def _slot_inputs(
    job: ApgdJob, places: Sequence[tuple[int, int] | None], device: torch.device
) -> _SlotInputs:
    first = next(place for place in places if place is not None)
    held = [first if place is None else place for place in places]
    rows = torch.tensor([row for row, _ in held], device=device)
    busy = torch.tensor([place is not None for place in places], device=device)
    part, aims = job.objective.select(rows), None
    if job.others.shape[1]:
        runs = torch.tensor([run % job.others.shape[1] for _, run in held], device=device)
        aims = job.others[rows, runs]
    raised = surrogate(part, job.loss, aims)
    return _SlotInputs(rows, busy, job.images[rows].detach(), job.threat.select(rows), part, raised)


def _evaluate(inputs: _SlotInputs, loss: str, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    value, gradient = value_and_gradient(inputs.raised, points)
    if loss == "margin":
        return value.to(points), gradient, value.to(points)
    with torch.no_grad():
        return value.to(points), gradient, no_win(inputs.objective.margin(points)).to(points)


def _occupy(
    job: ApgdJob,
    seeds: Sequence[int],
    places: list[tuple[int, int] | None],
    waiting: list[tuple[int, int]],
    slots: Slots,
) -> None:
    for place, holder in enumerate(places):
        if holder is not None or not waiting:
            continue
        row, run = places[place] = waiting.pop()
        only = torch.tensor([row], device=job.images.device)
        image, threat = job.images[only].detach(), job.threat.select(only)
        start = random_start(image, threat, [seeds[row]], run=run, purpose=job.purpose)
        begin_run(slots, place, start[0], threat.norm)


def _step(slots: Slots, inputs: _SlotInputs, gradient: Tensor) -> None:
    clean, threat = inputs.clean, inputs.threat
    points, size = slots.points.clone(), column(slots.size * threat.radii(clean), clean)
    upwards = step_upwards(gradient, points, clean, threat, pixels=slots.pixels)
    aimed = threat.project(clean, points + size * upwards)
    if threat.norm == "l1":
        slots.points.copy_(aimed)
        slots.count.add_(1)
        return
    momentum = MOMENTUM * (aimed - points) + (1.0 - MOMENTUM) * (points - slots.previous)
    smooth = threat.project(clean, points + momentum)
    slots.points.copy_(torch.where(column(slots.count > 0, clean), smooth, aimed))
    slots.previous.copy_(points)
    slots.count.add_(1)
