"""Run an attack and verify what it claims: an attack cannot lie."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from attacks.finding import Finding, Search
from attacks.methods import ATTACKS, Attack
from robustcl.batching import fill
from robustcl.errors import InputError
from robustcl.frozen import frozen
from robustcl.objectives import Objective
from robustcl.specification import choose
from robustcl.threat import Threat, perturbation_norm

TOLERANCE = 1e-6


def run(
    attack: str | Callable[..., Search],
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    seeds: Sequence[int] | None = None,
    batch_size: int = 128,
    starts: Tensor | None = None,
    **options: Any,
) -> Finding:
    """Run an attack in batches of a fixed shape, project its points and measure them again.

    A point counts only when it is finite, in the box, within eps (1 + 1e-6) and its margin is
    positive in a batch of the fixed shape. The model is left as it was, also after an exception.

    Args:
        attack: A name in `ATTACKS`, or a function of the same kind.
        objective: What is raised.
        images: (B, C, H, W) in the box.
        threat: What is allowed.
        seeds: One seed per image; 0, 1, ... by default.
        batch_size: Images per model call.
        starts: (B, C, H, W) points at which an attack that takes them begins.
        **options: Options of the attack.

    Returns:
        The verified finding.

    Raises:
        InputError: When there is no image, one is outside the box, seeds are too few, or starts do
            not fit.
    """
    seeds = list(range(len(images)) if seeds is None else seeds)
    if not len(images) or len(seeds) != len(images):
        raise InputError(f"{len(images)} images with {len(seeds)} seeds; give at least one, paired")
    if threat.box and not bool(((images >= threat.box[0]) & (images <= threat.box[1])).all()):
        raise InputError(f"an image has pixels outside the box {threat.box}; scale the images")
    entry = _entry(attack)
    name = attack if isinstance(attack, str) else getattr(attack, "__name__", "attack")
    _check_starts(entry, name, images, starts)
    given = {**options, "batch_size": batch_size} if entry.fills else dict(options)
    size = len(images) if entry.fills else batch_size
    candidates, gradients, forwards, notes, parameters = [], [], [], set(), dict(options)
    model = objective.classifier
    with frozen(model) if model is not None else nullcontext():
        for chunk in torch.arange(len(images), device=images.device).split(size):
            rows = fill(chunk, size) if entry.pads else chunk
            if starts is not None:
                given["starts"] = starts[rows]
            chosen = [seeds[row] for row in rows.tolist()]
            part = threat.select(rows)
            aim = objective.select(rows)
            search = entry.function(aim, images[rows], part, seeds=chosen, **given)
            candidates.append(search.candidates.detach()[: len(chunk)])
            gradients.append(search.gradients[: len(chunk)].cpu())
            if search.forwards is not None:
                forwards.append(search.forwards[: len(chunk)].cpu())
            notes.add(search.note)
            parameters.update(search.parameters)
        points = _allowed(images, torch.cat(candidates), threat)
        margins = measure(objective, points, batch_size=batch_size)
    norms = perturbation_norm(points - images, threat.norm)
    within = norms <= threat.radii(images).double() * (1.0 + TOLERANCE)
    success = within & (margins > 0)
    return Finding(
        attack=name,
        adversarials=torch.where(success.view(-1, *[1] * (images.ndim - 1)), points, images),
        success=success,
        radius=torch.where(success, norms, torch.inf),
        gradients=torch.cat(gradients) * objective.evaluations,
        parameters=parameters,
        note="; ".join(sorted(note for note in notes if note)),
        forwards=torch.cat(forwards) * objective.evaluations if forwards else None,
    )


def measure(objective: Objective, images: Tensor, *, batch_size: int) -> Tensor:
    """Evaluate the margin in batches of one fixed shape; NaN is no win.

    Args:
        objective: The objective.
        images: (B, C, H, W).
        batch_size: Rows per call.

    Returns:
        (B,) margins.
    """
    margins = []
    with torch.no_grad():
        for chunk in torch.arange(len(images), device=images.device).split(batch_size):
            rows = fill(chunk, batch_size)
            margins.append(objective.select(rows).margin(images[rows])[: len(chunk)])
    return torch.nan_to_num(torch.cat(margins), nan=-torch.inf, posinf=torch.inf)


def _entry(attack: str | Callable[..., Search]) -> Attack:
    if isinstance(attack, str):
        return ATTACKS[choose(attack, ATTACKS, what="attack")]
    known = (entry for entry in ATTACKS.values() if entry.function is attack)
    return next(known, Attack(attack, "", ""))


def _check_starts(attack: Attack, name: str, images: Tensor, starts: Tensor | None) -> None:
    if starts is None:
        return
    if "starts" not in inspect.signature(attack.function).parameters:
        raise InputError(f"{name} takes no starts; boundary_walk does")
    if starts.shape != images.shape:
        raise InputError(
            f"starts of shape {tuple(starts.shape)} for images of shape {tuple(images.shape)}; "
            "give one point per image"
        )


def _allowed(images: Tensor, candidates: Tensor, threat: Threat) -> Tensor:
    shape = (-1, *[1] * (images.ndim - 1))
    finite = torch.isfinite(candidates).flatten(1).all(dim=1)
    safe = torch.where(finite.view(shape), candidates.to(images), images)
    return threat.project(images, safe)
