"""Attack certified balls from their surface and write the records."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from robustcl import attacks
from robustcl.attacks.gradient import column
from robustcl.auditing.audit_job import AuditJob, compare_points, records_of, seeds_of
from robustcl.auditing.keep_violations import keep_violations
from robustcl.core.objectives import misclassify
from robustcl.core.threat import ORDERS, Threat
from robustcl.data.dataset import Batch

WALK_STEPS = 20
INSIDE = 2e-6  # relative distance from the radius, so that what is within eps (1 + 1e-6) is below


def ball_records(job: AuditJob, batch: Batch, left: Tensor, text: str) -> list[dict[str, Any]]:
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
        found = _attacked(job, batch, left, rows, balls[rows] * (1.0 - INSIDE), text)
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
    job: AuditJob, batch: Batch, left: Tensor, rows: Tensor, balls: Tensor, text: str
) -> attacks.Finding:
    objective = misclassify(job.classifier, left[rows])
    seeds = seeds_of(job, batch, text)
    images, threat = batch.images[rows], Threat(job.audit.norm, balls, None)
    found = attacks.run(
        "surface", objective, images, threat, seeds=[seeds[row] for row in rows.tolist()],
        batch_size=job.batch_size,
    )  # fmt: skip
    if not bool(found.confirmed.any()):
        return found
    # A violation: say by how much, with a point as near as a walk from there leads.
    near = attacks.run(
        "boundary_walk", objective, images, threat, starts=found.adversarials,
        batch_size=job.batch_size, steps=WALK_STEPS,
    )  # fmt: skip
    return _nearer(found, near)


def _nearer(before: attacks.Finding, after: attacks.Finding) -> attacks.Finding:
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
