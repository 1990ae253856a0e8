"""Run the reference implementation of AutoAttack, shielded."""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from pyautoattack import AutoAttack
from torch import Tensor

from attacks.held import held
from robustcl.errors import InputError
from robustcl.objectives import Objective
from robustcl.threat import Threat

VERSIONS: dict[str, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
PARTS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")
NORMS = {"l2": "L2", "linf": "Linf"}
RESEEDING = (
    "the reference reseeds once per batch and compacts it, so what is tried on an image depends on "
    "its batch; every success is verified in the fixed batch shape"
)


def autoattack(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    version: str = "standard",
    attacks: str = "",
    seeds: Sequence[int] | None = None,
) -> Tensor:
    """Run AutoAttack by its authors' code (`pyautoattack`), on scores as logits.

    Parts that this number of classes or this image size does not allow are left out, and
    `autoattack_note` says which. A named list runs with the standard version's parameters.

    Args:
        objective: With a classifier and targets.
        images: (B, C, H, W) clean images in [0, 1], float32.
        threat: One budget for all images, box (0, 1).
        version: 'standard' or 'rand' (20 evaluations per gradient, for randomized models).
        attacks: Parts instead of a version, as in 'apgd-ce+fab-t'.
        seeds: One seed per image, the first of which seeds the batch; 0, 1, ... by default.

    Returns:
        (B, C, H, W) candidates, not verified: `run` does that.

    Raises:
        InputError: When the objective, the budget, the box or a part does not fit.

    Reference:
        Croce and Hein, Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
        Parameter-free Attacks, ICML 2020.
    """
    plan = _plan(objective, images, threat, version, attacks)
    if objective.targets is None:
        raise InputError("autoattack needs the classes to be left; use an objective with targets")
    if seeds is not None and len(seeds) != len(images):
        raise InputError(f"{len(seeds)} seeds for {len(images)} images; give one each")
    kept, source = _distinct(images, seeds or range(len(images)))
    chosen = objective.select(kept)
    targets = cast(Tensor, chosen.targets).to(images.device)
    eps = float(threat.radii(images)[0]) if isinstance(threat.eps, Tensor) else threat.eps
    reference = AutoAttack(
        cast(Any, _logits(chosen, images[kept])),
        norm=cast(Any, NORMS[threat.norm]),
        eps=eps,
        device=images.device,
        seed=seeds[0] if seeds else 0,
        version=cast(Any, "rand" if version == "rand" else "standard"),
    )
    reference.attacks_to_run = list(plan.parts)
    reference.apgd_targeted.n_target_classes = plan.target_classes
    reference.fab.n_target_classes = plan.target_classes
    _mute(reference)
    tracer = sys.gettrace()  # the reference switches tracing off, and with it debuggers
    try:
        with held(objective):
            found, _ = reference.run_standard_evaluation(
                images[kept].detach(), targets, batch_size=len(kept)
            )
    finally:
        sys.settrace(tracer)
    return found.detach()[source]


def autoattack_note(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    version: str = "standard",
    attacks: str = "",
) -> str:
    """Say what differs from AutoAttack as published.

    Args:
        objective: With a classifier.
        images: (B, C, H, W) clean images.
        threat: The threat.
        version: As in `autoattack`.
        attacks: As in `autoattack`.

    Returns:
        Parts left out or put in, and how the reference draws its noise.
    """
    return "; ".join((*_plan(objective, images, threat, version, attacks).changes, RESEEDING))


@dataclass(frozen=True)
class _Plan:
    parts: tuple[str, ...]
    target_classes: int
    changes: tuple[str, ...]


def _plan(
    objective: Objective, images: Tensor, threat: Threat, version: str, attacks: str
) -> _Plan:
    if objective.classifier is None:
        raise InputError("autoattack needs class scores; use an objective with a classifier")
    if version not in VERSIONS or (attacks and version != "standard"):
        raise InputError(
            f"version {version!r} with attacks {attacks!r}; use version=standard, version=rand, "
            "or attacks=apgd-ce+fab-t alone"
        )
    parts = tuple(attacks.split("+")) if attacks else VERSIONS[version]
    stranger = next((part for part in parts if part not in PARTS), None)
    if stranger is not None:
        raise InputError(f"unknown part {stranger!r} of autoattack; known: {', '.join(PARTS)}")
    if threat.box is None or tuple(threat.box) != (0.0, 1.0):
        raise InputError(f"autoattack clips to [0, 1], not to box {threat.box}; use pgd")
    if isinstance(threat.eps, Tensor) and bool((threat.eps != threat.eps.flatten()[0]).any()):
        raise InputError("autoattack takes one eps for all images; use pgd for one per image")
    classes = objective.classifier.num_classes
    kept, changes = _fitting(parts, classes, images, threat)
    if not kept:
        raise InputError(f"no part of {'+'.join(parts)} can run: {'; '.join(changes)}; use pgd")
    return _Plan(kept, min(9, classes - 1), changes)


def _fitting(
    parts: tuple[str, ...], classes: int, images: Tensor, threat: Threat
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    kept: list[str] = []
    changes: list[str] = []
    for part in parts:
        if part == "apgd-dlr" and classes < 3:
            changes.append(f"apgd-dlr left out: DLR needs 3 classes, not {classes}")
        elif part == "apgd-t" and classes < 3:
            changes.append(f"apgd-t left out: targeted DLR needs 4 classes, not {classes}")
        elif part == "apgd-t" and classes == 3:
            changes.append("apgd-dlr in place of apgd-t: targeted DLR needs 4 classes, not 3")
            kept.append("apgd-dlr")
        elif part == "square" and threat.norm == "l2" and not square_l2_fits(*images.shape[-2:]):
            size = f"{images.shape[-2]}x{images.shape[-1]}"
            changes.append(f"square left out: the reference's L2 form fails at {size} pixels")
        else:
            kept.append(part)
        if part in ("apgd-t", "fab-t") and part in kept and classes < 10:
            changes.append(f"{part} aims at {classes - 1} classes instead of 9")
    return tuple(dict.fromkeys(kept)), tuple(changes)


def square_l2_fits(height: int, width: int) -> bool:
    """Tell whether the reference's L2 Square attack can lay its first tiles on an image.

    Its tiles of side height // 5 run over the edge at some sizes, which raises an error there.

    Args:
        height: In pixels.
        width: In pixels.

    Returns:
        False at sides of 12, 14, 18, 19 and 24 pixels and below 5.
    """
    side = height // 5
    if side < 2:
        return side == 1
    start = (height - 5 * side) // 2
    return all(start + (length // side) * side <= length for length in (height, width))


def _distinct(images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Find rows that repeat the one before (padding): attack them once, and copy the answer."""
    kept, source = [0], [0]
    for row in range(1, len(images)):
        if seeds[row] != seeds[row - 1] or not torch.equal(images[row], images[row - 1]):
            kept.append(row)
        source.append(len(kept) - 1)
    return torch.tensor(kept), torch.tensor(source)


def _logits(objective: Objective, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Return scores as a function of any of the images' perturbations, in any number.

    The reference drops the images it has fooled without saying which; for the count of gradients
    each point is taken to belong to the nearest image.
    """
    centers = images.detach().flatten(1)

    def logits(points: Tensor) -> Tensor:
        if not points.requires_grad or len(points) == len(centers):
            return objective.scores(points)
        rows = torch.cdist(points.detach().flatten(1), centers).argmin(dim=1)
        return objective.select(rows.cpu()).scores(points)

    return logits


def _mute(reference: AutoAttack) -> None:
    silent = logging.Logger("muted")
    silent.disabled = True
    reference.verbose = False
    for part in (reference, reference.apgd, reference.apgd_targeted):
        part.logger = silent
