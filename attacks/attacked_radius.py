"""Find the smallest verified perturbation of each image."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from attacks.finding import Finding
from attacks.gradient import column
from attacks.methods import ATTACKS
from attacks.run import measure, run
from robustcl.errors import InputError
from robustcl.frozen import frozen
from robustcl.objectives import Objective
from robustcl.specification import choose
from robustcl.threat import Norm, Threat, perturbation_norm

LINE_STEPS = 12
WALK_STEPS = 20


def attacked_radius(
    attack: str,
    objective: Objective,
    images: Tensor,
    *,
    norm: Norm,
    eps_grid: Sequence[float],
    box: tuple[float, float] | None = (0.0, 1.0),
    seeds: Sequence[int] | None = None,
    batch_size: int = 128,
    bisections: int = 8,
    **options: Any,
) -> Finding:
    """Attack at rising budgets those who survive, then shrink what was found.

    A minimum-norm attack is run once, within the largest budget. Shrinking is a line search
    towards the image, then PGD at bisected budgets, one per image (unless the attack is of minimum
    norm), then `boundary_walk`; only verified points count. The radius is the smallest verified
    norm: an upper bound of the true radius within the box.

    Args:
        attack: A name in `ATTACKS`.
        objective: What is raised.
        images: (B, C, H, W) in the box.
        norm: 'l2' or 'linf'.
        eps_grid: Ascending positive budgets.
        box: Pixel range, or None.
        seeds: One seed per image; 0, 1, ... by default.
        batch_size: Images per model call.
        bisections: Budgets tried while shrinking, where the attack is none of minimum norm.
        **options: Options of the attack.

    Returns:
        The finding: radius 0 where the adversary has won at the start, infinite where nothing was
        found up to the largest budget.

    Raises:
        InputError: When the grid is empty or not ascending.
    """
    grid = [0.0, *eps_grid]
    if len(grid) < 2 or any(low >= high for low, high in pairwise(grid)):
        raise InputError(f"eps_grid {tuple(eps_grid)} is not positive and ascending")
    seeds = list(range(len(images)) if seeds is None else seeds)
    with frozen(objective.classifier) if objective.classifier is not None else nullcontext():
        start = measure(objective, images, batch_size=batch_size) > 0
    radius = torch.where(start, 0.0, torch.inf).double()
    found, failed = images.detach().clone(), torch.zeros_like(radius)
    spent, notes = torch.zeros(len(images), dtype=torch.int64), set()
    nearest = ATTACKS[choose(attack, ATTACKS, what="attack")].minimum_norm
    for eps in eps_grid[-1:] if nearest else eps_grid:
        rows = torch.nonzero(torch.isinf(radius))[:, 0]
        if not len(rows):
            break
        part = _part(objective, images, seeds, rows)
        finding = run(attack, part[0], part[1], Threat(norm, eps, box), seeds=part[2],
                      batch_size=batch_size, **options)  # fmt: skip
        found[rows], radius[rows] = finding.adversarials, finding.radius
        failed[rows] = torch.where(finding.success, failed[rows], eps)
        spent[rows.cpu()] += finding.gradients
        notes.add(finding.note)
    rows = torch.nonzero(torch.isfinite(radius) & (radius > 0))[:, 0]
    if len(rows):
        part, near, low = _part(objective, images, seeds, rows), found[rows], failed[rows]
        threat, times = Threat(norm, eps_grid[-1], box), 0 if nearest else bisections
        near, cost = _shrink(*part, near, low, threat, batch_size, times)
        found[rows], more = _walk(*part, near, threat, batch_size)
        radius[rows] = perturbation_norm(found[rows] - images[rows], norm)
        spent[rows.cpu()] += cost + more
    note = "; ".join(sorted(note for note in notes if note))
    return Finding(attack, found, torch.isfinite(radius), radius, spent, dict(options), note)


def _part(
    objective: Objective, images: Tensor, seeds: Sequence[int], rows: Tensor
) -> tuple[Objective, Tensor, list[int]]:
    return objective.select(rows), images[rows], [seeds[row] for row in rows.tolist()]


def _shrink(
    objective: Objective,
    images: Tensor,
    seeds: list[int],
    found: Tensor,
    low: Tensor,
    threat: Threat,
    batch_size: int,
    times: int,
) -> tuple[Tensor, Tensor]:
    found = _line_search(objective, images, found, batch_size=batch_size)
    radius = perturbation_norm(found - images, threat.norm)
    low = torch.minimum(low, radius)
    spent = torch.zeros(len(images), dtype=torch.int64)
    for _ in range(times):
        middle = ((low + radius) / 2.0).to(images.dtype)
        budget = replace(threat, eps=middle)
        finding = run("pgd", objective, images, budget, seeds=seeds, batch_size=batch_size,
                      steps=16, restarts=4)  # fmt: skip
        better = finding.success & (finding.radius < radius)
        found = torch.where(column(better, images), finding.adversarials, found)
        radius = torch.where(better, finding.radius, radius)
        low = torch.where(
            better, torch.minimum(low, radius), torch.minimum(middle.double(), radius)
        )
        spent += finding.gradients
    return found, spent


def _walk(
    objective: Objective,
    images: Tensor,
    seeds: list[int],
    found: Tensor,
    threat: Threat,
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    found = _line_search(objective, images, found, batch_size=batch_size)
    walked = run("boundary_walk", objective, images, threat, seeds=seeds, batch_size=batch_size,
                 starts=found, steps=WALK_STEPS)  # fmt: skip
    better = walked.success & (walked.radius < perturbation_norm(found - images, threat.norm))
    found = torch.where(column(better, images), walked.adversarials, found)
    return found, walked.gradients


def _line_search(objective: Objective, images: Tensor, found: Tensor, *, batch_size: int) -> Tensor:
    # The nearest point along each perturbation at which the margin was positive.
    shape = (-1, *[1] * (images.ndim - 1))
    low, high = torch.zeros(len(images)).to(images), torch.ones(len(images)).to(images)
    best, delta = found, found - images
    model = objective.classifier
    with frozen(model) if model is not None else nullcontext():
        for _ in range(LINE_STEPS):
            middle = (low + high) / 2.0
            points = images + middle.view(shape) * delta
            won = measure(objective, points, batch_size=batch_size) > 0
            best = torch.where(won.view(shape), points, best)
            low, high = torch.where(won, low, middle), torch.where(won, middle, high)
    return best
