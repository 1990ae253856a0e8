"""Run an attack batch by batch, project its points and measure them again."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from robustcl.attacks.attack_inputs import AttackInputs
from robustcl.attacks.curve import LossCurve, curve_of, joined_curves, watched
from robustcl.attacks.measuring import measure
from robustcl.attacks.methods import ATTACKS, Attack
from robustcl.attacks.nearest import TOLERANCE
from robustcl.attacks.results import AttackResult, Candidates, join_candidates
from robustcl.attacks.steps import column
from robustcl.core.batching import count_forward_passes, fill
from robustcl.core.modules import eval_mode
from robustcl.core.objectives import Objective
from robustcl.core.specification import choose
from robustcl.core.threat import Threat, perturbation_norm


def searched(
    attack: str | Callable[..., Candidates],
    inputs: AttackInputs,
    *,
    starts: Tensor | None = None,
    **options: Any,
) -> AttackResult:
    """Say at which of an attack's points the deployed model has lost.

    A point counts when it is finite, in the box, within eps (1 + 1e-6) and its margin is positive
    in a batch of the fixed shape. The model is left as it was, also after an exception.

    Args:
        attack: A name in `ATTACKS`, or a function of the same kind.
        inputs: What is attacked, to what end, within what.
        starts: (B, C, H, W) points at which an attack that takes them begins.
        **options: Options of the attack.

    Returns:
        The attack result, of which nothing is confirmed yet.
    """
    images, threat = inputs.images, inputs.threat
    with eval_mode(inputs.objective.classifier):
        search, curve = _search(known_attack(attack), inputs, starts, options)
        points = _allowed(images, search.candidates, threat)
        margins = measure(inputs.objective, points, batch_size=inputs.batch_size)
    norms = perturbation_norm(points - images, threat.norm)
    eps = float(torch.as_tensor(threat.eps, dtype=torch.float64).max())
    within = norms <= threat.radii(images).double() * (1.0 + TOLERANCE)
    success = within & (margins > 0)
    return AttackResult(
        attack=attack_name(attack),
        adversarials=torch.where(column(success, images), points, images),
        success=success,
        deployed=torch.where(success, norms, torch.inf),
        radius=torch.full_like(norms, torch.inf),
        gradients=search.gradients,
        parameters={**options, **search.parameters},
        note=search.note,
        forwards=search.forwards,
        curves={} if curve is None else {eps: curve},
    )


def known_attack(attack: str | Callable[..., Candidates]) -> Attack:
    """Look an attack up.

    Args:
        attack: A name in `ATTACKS`, or a function.

    Returns:
        Its entry; one made for the function where the table has none.
    """
    if isinstance(attack, str):
        return ATTACKS[choose(attack, ATTACKS, what="attack")]
    known = (entry for entry in ATTACKS.values() if entry.function is attack)
    return next(known, Attack(attack, "", ""))


def attack_name(attack: str | Callable[..., Candidates]) -> str:
    """Name an attack.

    Args:
        attack: A name, or a function.

    Returns:
        The name.
    """
    return attack if isinstance(attack, str) else getattr(attack, "__name__", "attack")


def _search(
    entry: Attack, inputs: AttackInputs, starts: Tensor | None, options: dict[str, Any]
) -> tuple[Candidates, LossCurve | None]:
    # Call the attack batch by batch, and count its passes where it does not do so itself.
    given = {**options, "batch_size": inputs.batch_size} if entry.fills else dict(options)
    size = len(inputs.images) if entry.fills else inputs.batch_size
    model, searches, curves = inputs.objective.classifier, [], []
    for chunk in torch.arange(len(inputs.images), device=inputs.images.device).split(size):
        rows = fill(chunk, size) if entry.pads else chunk
        part, heard = inputs.select(rows), []
        if starts is not None:
            given["starts"] = starts[rows]
        aim = watched(part.objective, part.images, part.threat, heard)
        with count_forward_passes(None if model is None else model.encoder) as seen:
            search = entry.function(aim, part.images, part.threat, seeds=part.seeds, **given)
        curves.append(curve_of(heard, part.threat.radii(part.images), len(chunk)))
        search = _of_true_rows(search, len(chunk), inputs.objective)
        if search.forwards is None and model is not None:
            share = torch.full((len(chunk),), -(-sum(seen) // len(rows)))
            search = replace(search, forwards=share)
        searches.append(search)
    return join_candidates(searches), joined_curves(curves)


def _of_true_rows(search: Candidates, count: int, objective: Objective) -> Candidates:
    # Leave out the rows that only keep the batch's shape; passes are through the network.
    forwards = search.forwards
    return replace(
        search,
        candidates=search.candidates.detach()[:count],
        gradients=search.gradients[:count].cpu() * objective.evaluations,
        forwards=None if forwards is None else forwards[:count].cpu() * objective.evaluations,
    )


def _allowed(images: Tensor, candidates: Tensor, threat: Threat) -> Tensor:
    finite = torch.isfinite(candidates).flatten(1).all(dim=1)
    safe = torch.where(column(finite, images), candidates.to(images), images)
    return threat.project(images, safe)
