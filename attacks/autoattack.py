"""Attack by the reference AutoAttack."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from attacks.finding import Search
from robustcl.errors import InputError
from robustcl.objectives import Objective
from robustcl.threat import Threat

SQUARE_L2_FAILS = (12, 14, 18, 19, 24)


def autoattack(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    version: str = "standard",
    seeds: Sequence[int] | None = None,
) -> Search:
    """Run the reference package `pyautoattack` and return its points.

    The standard version is APGD on cross-entropy, targeted APGD, targeted FAB and Square. With
    three classes targeted APGD is replaced by APGD on DLR and with two it is left out, since their
    losses need more classes. The reference reseeds one global generator per batch, so unlike other
    attacks its points depend on the batch; the caller's generators are restored.

    Args:
        objective: Must have a classifier and targets.
        images: (B, C, H, W) in [0, 1].
        threat: The ball with one budget for all images, and the box [0, 1].
        version: 'standard' or 'rand'.
        seeds: The first one seeds the package.

    Returns:
        The points; gradients are the average over the images.

    Raises:
        InputError: When the objective has no classifier or targets, or the threat or the version
            is one that the package does not treat.

    Reference:
        Croce and Hein, Reliable Evaluation of Adversarial Robustness, ICML 2020.
    """
    if objective.classifier is None or objective.targets is None:
        raise InputError(
            "autoattack needs class scores; use an objective with a classifier, or pgd"
        )
    if torch.as_tensor(threat.eps).ndim or threat.box != (0.0, 1.0):
        raise InputError("autoattack takes one eps for all images and the box (0, 1); use pgd")
    if version not in ("standard", "rand"):
        raise InputError(f"unknown version {version!r} of autoattack; use standard or rand")
    from pyautoattack import AutoAttack  # slow to import

    model = _Counted(objective.classifier)
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    seed = (seeds[0] if seeds else 0) % 2**31
    norm = "L2" if threat.norm == "l2" else "Linf"
    attack = AutoAttack(
        model, eps=float(threat.eps), norm=norm, version=version, seed=seed, device=images.device
    )
    names, note = _names(list(attack.attacks_to_run or ()), classes, norm, images.shape[2:])
    attack.attacks_to_run = names
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(9, classes - 1)
    attack.logger = attack.apgd.logger = attack.apgd_targeted.logger = logging.Logger("quiet", 99)
    with _generators_kept():
        found, _ = attack.run_standard_evaluation(
            images.detach(), objective.targets.to(images.device), batch_size=len(images)
        )
    spent = torch.full((len(images),), model.rows // len(images), dtype=torch.int64)
    return Search(found.detach(), spent, note)


class _Counted(nn.Module):
    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.rows = 0  # images of which a gradient was asked

    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad and torch.is_grad_enabled():
            self.rows += len(images)
        return self.classifier(images)


def _names(
    wanted: list[str], classes: int, norm: str, size: Sequence[int]
) -> tuple[list[str], str]:
    names, notes = list(wanted), []
    if classes <= 3 and "apgd-t" in names:
        names = [name for name in names if name != "apgd-t"]
        notes.append(f"no targeted APGD with {classes} classes")
        if classes == 3:
            names.insert(1, "apgd-dlr")
    if classes == 2 and "apgd-dlr" in names:
        names.remove("apgd-dlr")
        notes.append("no DLR loss with 2 classes")
    if norm == "L2" and "square" in names and any(side in SQUARE_L2_FAILS for side in size):
        names.remove("square")
        notes.append(f"no Square: the reference fails in L2 at image size {tuple(size)}")
    return names, "; ".join(notes)


@contextmanager
def _generators_kept() -> Iterator[None]:
    state = np.random.get_state()  # noqa: NPY002 the package uses the global generators
    try:
        with torch.random.fork_rng():
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
