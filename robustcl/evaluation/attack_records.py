"""Measure the records of attacks, and of attacks on certified balls."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustcl import attacks
from robustcl.attacks.curve import EVALUATIONS
from robustcl.attacks.steps import column
from robustcl.core.abstention import ABSTAINED
from robustcl.core.objectives import misclassify
from robustcl.core.threat import ORDERS, Threat
from robustcl.data.dataset import Batch
from robustcl.evaluation.job import EvaluationJob, compare_points, records_of, seeds_of
from robustcl.evaluation.keeping import ExampleImages, keep_curves, keep_examples, keep_violations
from robustcl.records.kinds import CERTIFIED_BALL


def attack_records(
    job: EvaluationJob, batch: Batch, left: Tensor, text: str
) -> list[dict[str, Any]]:
    """Look for the smallest perturbation of each image, or attack at one budget if screened.

    Both verdicts are recorded: `deployed` is the norm at which the model itself was fooled,
    `radius` that at which a float64 copy is, beyond its own rounding. What wins in float32 alone
    and cannot be pushed outward within the largest budget has no radius (`in_float64` is false).

    Args:
        job: The job.
        batch: The images.
        left: (B,) predicted classes, which are to be left.
        text: The attack.

    Returns:
        One record per image. Pictures and curves are kept in arrays/.
    """
    seeds, columns = seeds_of(job, batch, text), {"predicted": left}
    if job.audit.screened:
        found, costs = _screened(job, batch, left, seeds, text)
        columns |= costs
    elif job.audit.one_budget:
        found = _at_one_budget(job, batch, left, seeds, text)
    else:
        found = _smallest(job, batch, left, seeds, text)
    compare_points(job, found.adversarials)
    _keep(job, batch, found, text, right=_right(batch, left))
    columns |= {
        "radius": found.radius,
        "deployed": found.deployed,
        "in_float64": found.confirmed | ~found.success,
        "gradients": found.gradients,
    }
    if found.failed is not None:
        columns["failed"] = found.failed
    if found.forwards is not None:
        columns["forwards"] = found.forwards
    terms = {"norm": job.audit.norm, "eps": list(job.audit.eps), "subject": job.audit.subject}
    if found.note:
        terms["note"] = found.note
    records = [{**row, **terms} for row in records_of(job, batch, "attack", text, **columns)]
    keep_violations(job, batch, records, found.adversarials)
    if not found.stages:
        return records
    spent = zip(*(cost.tolist() for cost in found.stages.values()), strict=True)
    stages = [dict(zip(found.stages, costs, strict=True)) for costs in spent]
    shares = {stage: spent / len(batch) for stage, spent in found.seconds.items()}
    return [
        {**row, "stages": own, "stage_seconds": shares}
        for row, own in zip(records, stages, strict=True)
    ]


def not_attacked(job: EvaluationJob, batch: Batch, text: str) -> list[dict[str, Any]]:
    """Record images for which the model gives no class that an attack could make it leave.

    Args:
        job: The job.
        batch: The images.
        text: The attack.

    Returns:
        One record per image, with the class -1 and no radius.
    """
    nothing, zeros = np.full(len(batch), np.inf), np.zeros(len(batch), np.int64)
    columns = {"radius": nothing, "deployed": nothing, "gradients": zeros, "forwards": zeros}
    columns |= {"predicted": zeros + ABSTAINED, "in_float64": np.ones(len(batch), dtype=bool)}
    ball = text == CERTIFIED_BALL
    columns |= {"ball": np.zeros(len(batch))} if ball else {}
    eps = [] if ball else list(job.audit.eps)
    terms = {"norm": job.audit.norm, "eps": eps, "subject": job.audit.subject}
    terms |= {"ball_by": ""} if ball else {}
    return [{**row, **terms} for row in records_of(job, batch, "attack", text, **columns)]


def _at_one_budget(
    job: EvaluationJob, batch: Batch, left: Tensor, seeds: list[int], text: str
) -> attacks.AttackResult:
    specification = attacks.parse_attack(text)
    options: dict[str, Any] = dict(specification.options)
    return attacks.run_attack(
        specification.name,
        misclassify(job.classifier, left),
        batch.images,
        Threat(job.audit.norm, job.audit.eps[0]),
        seeds=seeds,
        batch_size=job.batch_size,
        **options,
    )


def _smallest(
    job: EvaluationJob, batch: Batch, left: Tensor, seeds: list[int], text: str
) -> attacks.AttackResult:
    specification = attacks.parse_attack(text)
    options: dict[str, Any] = dict(specification.options)
    return attacks.attacked_radius(
        specification.name,
        misclassify(job.classifier, left),
        batch.images,
        norm=job.audit.norm,
        eps_grid=job.audit.eps,
        seeds=seeds,
        batch_size=job.batch_size,
        **options,
    )


def _screened(
    job: EvaluationJob, batch: Batch, left: Tensor, seeds: list[int], text: str
) -> tuple[attacks.AttackResult, dict[str, Any]]:
    options: dict[str, Any] = dict(attacks.parse_attack(text).options)
    assert job.images is not None  # attacks come last
    certified = job.images["certified"].reindex(batch.index.tolist()).tolist()
    found = attacks.screened(
        misclassify(job.classifier, left),
        batch.images,
        Threat(job.audit.norm, job.audit.eps[0]),
        certified=torch.tensor(certified, dtype=torch.float64),
        seeds=seeds,
        batch_size=job.batch_size,
        **options,
    )
    costs = {
        "decided": np.array(found.decided),
        "reference_forwards": found.reference_forwards,
        "reference_gradients": found.reference_gradients,
    }
    return found.result, costs


def _right(batch: Batch, left: Tensor) -> Tensor:
    # Without labels (-1) no image counts as wrong.
    return (left == batch.labels) | (batch.labels < 0)


def _keep(
    job: EvaluationJob, batch: Batch, found: attacks.AttackResult, text: str, *, right: Tensor
) -> None:
    rows, index = right.cpu(), batch.index.numpy()
    triples = (batch.images, found.adversarials.detach().float(), found.radius)
    chosen = (column.cpu()[rows].numpy() for column in triples)
    last = text == job.audit.attacks[-1]
    keep_examples(job.folder, ExampleImages(index[rows.numpy()], *chosen), last=last)
    keep_curves(
        job.folder,
        text,
        index,
        eps=job.audit.eps,
        evaluations=EVALUATIONS,
        found={
            eps: (curve.margins, curve.norms, curve.counts) for eps, curve in found.curves.items()
        },
    )


_WALK_STEPS = 20
_INSIDE = 2e-6  # relative distance from the radius, so that what is within eps (1 + 1e-6) is below


def ball_records(job: EvaluationJob, batch: Batch, left: Tensor, text: str) -> list[dict[str, Any]]:
    """Put the best deterministic certificate of each image to the test, within its ball.

    The attack starts on the surface and may leave the pixel box, as certificates cover such
    perturbations too. What has a radius lies strictly within the certified one and holds in float64
    beyond its rounding: a violation, which is saved.

    Args:
        job: The job, with certificates on record.
        batch: The images.
        left: (B,) predicted classes, which are to be left.
        text: By which records name this attack.

    Returns:
        One record per image; those without a certificate are not attacked.
    """
    assert job.images is not None  # attacks come last
    known = job.images.reindex(batch.index.tolist())
    # No two images of the box are farther apart than its diagonal.
    widest = float(batch.images[0].numel()) ** (1.0 / ORDERS[job.audit.norm])
    balls = torch.tensor(known["certified"].to_numpy(dtype=float)).clamp(max=widest)
    balls = balls.to(job.device)
    radius, deployed = torch.full_like(balls, torch.inf), torch.full_like(balls, torch.inf)
    gradients = torch.zeros(len(batch)).long()
    forwards, points = gradients.clone(), batch.images.clone()
    rows = torch.nonzero(balls > 0)[:, 0]
    if len(rows):
        found = _attacked(job, batch, left, rows, balls[rows] * (1.0 - _INSIDE), text)
        radius[rows], deployed[rows] = found.radius, found.deployed
        points[rows] = found.adversarials
        gradients[rows.cpu()] = found.gradients
        forwards[rows.cpu()] = found.gradients if found.forwards is None else found.forwards
    records = records_of(
        job, batch, "attack", text, predicted=left, radius=radius, gradients=gradients,
        forwards=forwards, ball=balls, ball_by=known["certified_by"].to_numpy(dtype=object),
        deployed=deployed, in_float64=torch.isfinite(radius) | torch.isinf(deployed),
    )  # fmt: skip
    terms = {"norm": job.audit.norm, "eps": [], "subject": job.audit.subject}
    records = [{**row, **terms} for row in records]
    compare_points(job, points)
    keep_violations(job, batch, records, points)
    return records


def _attacked(
    job: EvaluationJob, batch: Batch, left: Tensor, rows: Tensor, balls: Tensor, text: str
) -> attacks.AttackResult:
    objective = misclassify(job.classifier, left[rows])
    seeds = seeds_of(job, batch, text)
    images, threat = batch.images[rows], Threat(job.audit.norm, balls, None)
    found = attacks.run_attack(
        "surface", objective, images, threat, seeds=[seeds[row] for row in rows.tolist()],
        batch_size=job.batch_size,
    )  # fmt: skip
    if not bool(found.confirmed.any()):
        return found
    # A violation: say by how much, with a point as near as a walk from there leads.
    near = attacks.run_attack(
        "boundary_walk", objective, images, threat, starts=found.adversarials,
        batch_size=job.batch_size, steps=_WALK_STEPS,
    )  # fmt: skip
    return _nearer(found, near)


def _nearer(before: attacks.AttackResult, after: attacks.AttackResult) -> attacks.AttackResult:
    # By the radius, which counts here.
    better = after.radius < before.radius
    forwards = None
    if before.forwards is not None and after.forwards is not None:
        forwards = before.forwards + after.forwards
    return replace(
        before,
        adversarials=torch.where(
            column(better, before.adversarials), after.adversarials, before.adversarials
        ),
        deployed=torch.minimum(before.deployed, after.deployed),
        radius=torch.minimum(before.radius, after.radius),
        gradients=before.gradients + after.gradients,
        forwards=forwards,
    )
