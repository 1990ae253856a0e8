"""Keep only what a second objective confirms, such as the same model in float64."""

import time
from dataclasses import replace

import torch
from torch import Tensor

from attacks.finding import Finding
from attacks.gradient import column
from attacks.nearest_found import TOLERANCE
from attacks.rivals import boundary_step
from attacks.run import measure
from attacks.scene import Scene
from robustcl.batching import fill
from robustcl.frozen import frozen
from robustcl.objectives import Objective
from robustcl.threat import Threat, perturbation_norm

PUSHES = 12


def confirmed(
    finding: Finding,
    objective: Objective,
    exact: Objective,
    images: Tensor,
    threat: Threat,
    *,
    batch_size: int = 128,
) -> Finding:
    """Push points outward until a second objective has won at them too; drop those that stay short.

    An attack that ends within rounding of the boundary may win in float32 and not in the real
    network, about which certificates speak. Each push goes along the gradient of the second margin
    to where it is positive as far as its linearization says, and each goes twice as far beyond as
    the one before. A point counts when both margins are positive in batches of the fixed shape and
    it lies in the box and within eps (1 + 1e-6).

    Args:
        finding: What was found.
        objective: What it was found for.
        exact: The same aim in float64; it is given the points in that type.
        images: (B, C, H, W) clean images.
        threat: The norm, the box, and the largest budgets.
        batch_size: Images per model call.

    Returns:
        The finding; pushed points have a slightly larger radius, images whose point is not
        confirmed count as not found, and gradients of the pushes are added, as stage 'confirm'.
    """
    begun = time.monotonic()
    scene = Scene(objective, images, threat, range(len(images)), batch_size)
    points = finding.adversarials.clone()
    spent = torch.zeros(len(images), dtype=torch.int64)
    with frozen(objective.classifier), frozen(exact.classifier):
        agreed = measure(exact, points.double(), batch_size=batch_size) > 0
        tried = points
        for step in range(PUSHES):
            rows = torch.nonzero(finding.success & ~agreed)[:, 0]
            if not len(rows):
                break
            pushed = _pushed(scene, exact, tried, rows, 2.0**step)
            tried = tried.index_copy(0, rows, pushed)
            spent[rows.cpu()] += exact.evaluations
            agreed[rows] = _both(scene, exact, pushed, rows)
            points[rows] = torch.where(column(agreed[rows], pushed), pushed, points[rows])
    kept = finding.success & agreed
    moved = perturbation_norm(points - images, threat.norm)
    return replace(
        finding,
        adversarials=torch.where(column(kept, images), points, images),
        success=kept,
        radius=torch.where(kept, torch.where(spent.to(kept.device) > 0, moved, finding.radius),
                           torch.inf),
        gradients=finding.gradients + spent,
        stages={**finding.stages, "confirm": spent} if finding.stages else {},
        seconds={**finding.seconds, "confirm": time.monotonic() - begun},
    )  # fmt: skip


def _pushed(scene: Scene, exact: Objective, points: Tensor, rows: Tensor, share: float) -> Tensor:
    found = []
    for chunk in rows.split(scene.batch_size):
        filled = fill(chunk, scene.batch_size)
        part, aim = scene.select(filled), exact.select(filled)
        start = points[filled].double()
        move, _ = boundary_step(aim.margin, start, part.threat)
        moved = part.threat.project(part.images, (start + share * move).to(points))
        found.append(moved[: len(chunk)])
    return torch.cat(found)


def _both(scene: Scene, exact: Objective, points: Tensor, rows: Tensor) -> Tensor:
    part, size = scene.select(rows), scene.batch_size
    norms = perturbation_norm(points - part.images, part.threat.norm)
    within = norms <= part.threat.radii(part.images).double() * (1.0 + TOLERANCE)
    first = measure(part.objective, points, batch_size=size) > 0
    return within & first & (measure(exact.select(rows), points.double(), batch_size=size) > 0)
