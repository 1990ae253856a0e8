"""Find the smallest verified perturbation of each image."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from robustcl.attacks.attack_inputs import AttackInputs, attack_inputs
from robustcl.attacks.confirmation import confirm
from robustcl.attacks.curve import spread_of_curves
from robustcl.attacks.measuring import measure
from robustcl.attacks.methods import ATTACKS
from robustcl.attacks.results import AttackResult, join_notes, nearer_result
from robustcl.attacks.searched import searched
from robustcl.attacks.steps import column
from robustcl.core.choices import Norm
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.core.objectives import Objective
from robustcl.core.specification import choose
from robustcl.core.threat import Threat, perturbation_norm

LINE_STEPS = 12
_BISECTIONS = 8  # budgets tried while shrinking, where the attack is none of minimum norm
_WALK_STEPS = 20


@torch.inference_mode(False)
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
    **options: Any,
) -> AttackResult:
    """Attack at rising budgets those who survive, then shrink what was found.

    A minimum-norm attack is run once, within the largest budget. Shrinking is a line search
    towards the image, then PGD at bisected budgets, one per image (unless the attack is of minimum
    norm), then `boundary_walk`; only verified points count. All of this is about the deployed
    model; at the end its nearest points are confirmed in float64, if need be after a push outward
    (`attacks.confirmed`). The radius is the norm of a confirmed point: an upper bound of the true
    radius within the box.

    Args:
        attack: A name in `ATTACKS`.
        objective: What is raised.
        images: (B, C, H, W) in the box.
        norm: 'l2', 'linf' or 'l1'.
        eps_grid: Ascending positive budgets.
        box: Pixel range, or None.
        seeds: One seed per image; 0, 1, ... by default.
        batch_size: Images per model call.
        **options: Options of the attack.

    Returns:
        The attack result: radius 0 where the adversary has won at the start, infinite where
        nothing was found, or confirmed, up to the largest budget. Its stages are 'search',
        'shrink', 'walk' and 'confirm', its gradients those of all stages.

    Raises:
        InputError: When the grid is empty or not ascending, there is no image, one is outside the
            box or not finite, or seeds are too few.
    """
    grid = [0.0, *eps_grid]
    if len(grid) < 2 or any(low >= high for low, high in pairwise(grid)):
        raise InputError(f"eps_grid {tuple(eps_grid)} is not positive and ascending")
    inputs = attack_inputs(objective, images, Threat(norm, eps_grid[-1], box), seeds, batch_size)
    with eval_mode(objective.classifier):
        start = measure(objective, inputs.images, batch_size=batch_size) > 0
    found = _none_but(attack, start, inputs.images, options)
    for stage in _stages(attack, eps_grid, options):
        begun = time.monotonic()
        rows = torch.nonzero(stage.concerns(found))[:, 0]
        if len(rows):
            later = stage.run(inputs.select(rows), _of(found, rows))
            found = _with(found, rows, stage.name, later)
        seconds = found.seconds.get(stage.name, 0.0) + time.monotonic() - begun
        found = replace(found, seconds={**found.seconds, stage.name: seconds})
    return confirm(replace(found, success=torch.isfinite(found.deployed)), inputs)


@dataclass(frozen=True)
class _Stage:
    # A stage of the pipeline: for which images it is run, and what it makes of what was found.
    name: str
    concerns: Callable[[AttackResult], Tensor]
    run: Callable[[AttackInputs, AttackResult], AttackResult]


def _stages(attack: str, eps_grid: Sequence[float], options: dict[str, Any]) -> Iterable[_Stage]:
    # Search at rising budgets, then bisect, then walk along the boundary.
    nearest = ATTACKS[choose(attack, ATTACKS, what="attack")].minimum_norm
    for eps in eps_grid[-1:] if nearest else eps_grid:
        yield _Stage("search", _open, partial(_search, attack=attack, eps=eps, options=options))
    yield _Stage("shrink", _beaten, partial(_shrink, times=0 if nearest else _BISECTIONS))
    yield _Stage("walk", _beaten, _walk)


def _open(found: AttackResult) -> Tensor:
    return torch.isinf(found.deployed)


def _beaten(found: AttackResult) -> Tensor:
    return torch.isfinite(found.deployed) & (found.deployed > 0)


def _run(inputs: AttackInputs, attack: str, eps: float | Tensor, **options: Any) -> AttackResult:
    return searched(attack, replace(inputs, threat=replace(inputs.threat, eps=eps)), **options)


def _search(
    inputs: AttackInputs, found: AttackResult, *, attack: str, eps: float, options: dict[str, Any]
) -> AttackResult:
    assert found.failed is not None
    tried = _run(inputs, attack, eps=eps, **options)
    return replace(tried, failed=torch.where(tried.success, found.failed, eps))


def _none_but(attack: str, start: Tensor, images: Tensor, options: dict[str, Any]) -> AttackResult:
    # Nothing is found yet, but where the adversary has won before it began.
    norms, zeros = torch.where(start, 0.0, torch.inf).double(), torch.zeros(len(images)).long()
    return AttackResult(
        attack, images.clone(), start, norms, torch.full_like(norms, torch.inf), zeros,
        dict(options), forwards=zeros + 1, failed=torch.zeros_like(norms),
    )  # fmt: skip


def _of(found: AttackResult, rows: Tensor) -> AttackResult:
    # What is known of some images, with nothing spent.
    zeros = torch.zeros(len(rows)).long()
    return AttackResult(
        found.attack, found.adversarials[rows], found.success[rows], found.deployed[rows],
        found.radius[rows], zeros, forwards=zeros,
        failed=None if found.failed is None else found.failed[rows],
    )  # fmt: skip


def _with(found: AttackResult, rows: Tensor, stage: str, later: AttackResult) -> AttackResult:
    # Put in what a stage found for some images, and count what it spent.
    count, host = len(found.radius), rows.cpu()
    spent = found.stages.get(stage, torch.zeros(count).long()).clone()
    spent[host] += later.gradients
    forwards = None
    if found.forwards is not None and later.forwards is not None:
        forwards = found.forwards.index_add(0, host, later.forwards)
    curves = {
        eps: spread_of_curves(curve, host.numpy(), count) for eps, curve in later.curves.items()
    }
    failed = (
        found.failed
        if found.failed is None or later.failed is None
        else (found.failed.index_copy(0, rows, later.failed))
    )
    return replace(
        found,
        adversarials=found.adversarials.index_copy(0, rows, later.adversarials),
        deployed=found.deployed.index_copy(0, rows, later.deployed),
        gradients=found.gradients.index_add(0, host, later.gradients),
        parameters={**found.parameters, **later.parameters},
        note=join_notes([found.note, later.note]),
        forwards=forwards,
        curves={**found.curves, **curves},
        stages={**found.stages, stage: spent},
        failed=failed,
    )


def _shrink(inputs: AttackInputs, found: AttackResult, *, times: int) -> AttackResult:
    # Bisect between the budget that failed and the radius that was found.
    found = _along_the_ray(inputs, found)
    assert found.failed is not None
    low = torch.minimum(found.failed, found.deployed)
    for _ in range(times):
        middle = ((low + found.deployed) / 2.0).to(inputs.images.dtype)
        tried = _run(inputs, "pgd", eps=middle, steps=16, restarts=4)
        better = tried.success & (tried.deployed < found.deployed)
        found = nearer_result(found, tried)
        low = torch.where(better, low, middle.double()).minimum(found.deployed)
    return replace(found, failed=None)


def _walk(inputs: AttackInputs, found: AttackResult) -> AttackResult:
    found = _along_the_ray(inputs, found)
    walked = _run(inputs, "boundary_walk", inputs.threat.eps, starts=found.adversarials,
                  steps=_WALK_STEPS)  # fmt: skip
    return replace(nearer_result(found, walked), failed=None)


def _along_the_ray(inputs: AttackInputs, found: AttackResult) -> AttackResult:
    # The nearest point along each perturbation at which the margin was positive.
    images, best = inputs.images, found.adversarials
    low, high = torch.zeros(len(images)).to(images), torch.ones(len(images)).to(images)
    delta = best - images
    with eval_mode(inputs.objective.classifier):
        for _ in range(LINE_STEPS):
            middle = (low + high) / 2.0
            points = images + column(middle, images) * delta
            won = measure(inputs.objective, points, batch_size=inputs.batch_size) > 0
            best = torch.where(column(won, images), points, best)
            low, high = torch.where(won, low, middle), torch.where(won, middle, high)
    return replace(
        found,
        adversarials=best,
        deployed=perturbation_norm(best - images, inputs.threat.norm),
        forwards=None if found.forwards is None else found.forwards + LINE_STEPS,
    )
