"""Run an attack and verify what it claims: an attack cannot lie."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attacks.curve import Curve, curve_of, joined_curves, watched
from attacks.finding import Finding, Search, joined_searches
from attacks.gradient import column
from attacks.methods import ATTACKS, Attack
from attacks.nearest_found import TOLERANCE
from attacks.scene import Scene
from robustcl.batching import fill
from robustcl.errors import InputError
from robustcl.frozen import frozen
from robustcl.objectives import Objective
from robustcl.rows_seen import rows_seen
from robustcl.specification import choose
from robustcl.threat import Threat, perturbation_norm


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
    entry = _entry(attack)
    name = attack if isinstance(attack, str) else getattr(attack, "__name__", "attack")
    _check_images(images, seeds, threat)
    _check_starts(entry, name, images, starts)
    scene = Scene(objective, images, threat, seeds, batch_size)
    with frozen(objective.classifier):
        search, curve = _search(entry, scene, starts, options)
        points = _allowed(images, search.candidates, threat)
        margins = measure(objective, points, batch_size=batch_size)
    norms = perturbation_norm(points - images, threat.norm)
    eps = float(torch.as_tensor(threat.eps, dtype=torch.float64).max())
    within = norms <= threat.radii(images).double() * (1.0 + TOLERANCE)
    success = within & (margins > 0)
    return Finding(
        attack=name,
        adversarials=torch.where(column(success, images), points, images),
        success=success,
        radius=torch.where(success, norms, torch.inf),
        gradients=search.gradients,
        parameters={**options, **search.parameters},
        note=search.note,
        forwards=search.forwards,
        curves={} if curve is None else {eps: curve},
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


def _search(
    entry: Attack, scene: Scene, starts: Tensor | None, options: dict[str, Any]
) -> tuple[Search, Curve | None]:
    # Call the attack batch by batch, and count its passes where it does not do so itself.
    given = {**options, "batch_size": scene.batch_size} if entry.fills else dict(options)
    size = len(scene.images) if entry.fills else scene.batch_size
    model, searches, curves = scene.objective.classifier, [], []
    for chunk in torch.arange(len(scene.images), device=scene.images.device).split(size):
        rows = fill(chunk, size) if entry.pads else chunk
        part, heard = scene.select(rows), []
        if starts is not None:
            given["starts"] = starts[rows]
        aim = watched(part.objective, part.images, part.threat, heard)
        with rows_seen(None if model is None else model.encoder) as seen:
            search = entry.function(aim, part.images, part.threat, seeds=part.seeds, **given)
        curves.append(curve_of(heard, part.threat.radii(part.images), len(chunk)))
        search = _of_true_rows(search, len(chunk), scene.objective)
        if search.forwards is None and model is not None:
            share = torch.full((len(chunk),), -(-sum(seen) // len(rows)))
            search = replace(search, forwards=share)
        searches.append(search)
    return joined_searches(searches), joined_curves(curves)


def _of_true_rows(search: Search, count: int, objective: Objective) -> Search:
    # Leave out the rows that only keep the batch's shape; passes are through the network.
    forwards = search.forwards
    return replace(
        search,
        candidates=search.candidates.detach()[:count],
        gradients=search.gradients[:count].cpu() * objective.evaluations,
        forwards=None if forwards is None else forwards[:count].cpu() * objective.evaluations,
    )


def _entry(attack: str | Callable[..., Search]) -> Attack:
    if isinstance(attack, str):
        return ATTACKS[choose(attack, ATTACKS, what="attack")]
    known = (entry for entry in ATTACKS.values() if entry.function is attack)
    return next(known, Attack(attack, "", ""))


def _check_images(images: Tensor, seeds: Sequence[int], threat: Threat) -> None:
    if not len(images) or len(seeds) != len(images):
        raise InputError(f"{len(images)} images with {len(seeds)} seeds; give at least one, paired")
    if threat.box and not bool(((images >= threat.box[0]) & (images <= threat.box[1])).all()):
        raise InputError(f"an image has pixels outside the box {threat.box}; scale the images")


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
    finite = torch.isfinite(candidates).flatten(1).all(dim=1)
    safe = torch.where(column(finite, images), candidates.to(images), images)
    return threat.project(images, safe)
