"""Judge one classifier: clean, PGD, screened AutoAttack at several budgets, certified radii.

Exact savings, none of which changes a verdict but by the luck of the reference's draws:
* PGD climbs the budgets of a norm; an image fooled at one is out at all larger ones.
* Before AutoAttack a minimum-norm attack (`fmn`) looks for the nearest adversarial; whatever it
  finds, verified, is out at all budgets from there on.
* AutoAttack goes down the budgets. An image that the whole of it leaves standing at a budget is
  not attacked again at the smaller ones, whose balls lie within: there its figure is an upper bound
  as good as the one at the larger budget.
* Certificates go first: `attacks.screened` spares an image whose certified radius reaches eps.

A level is the number of a norm's budgets at which an image is right and was not fooled; -1 where it
is wrong without an attack. Levels are kept per image, so that differences can be paired.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robustcl import attacks
from robustcl.certify import certified_radius
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.objectives import misclassify
from robustcl.core.threat import Threat
from robustcl.data import Batch

BUDGETS: dict[CertifiedNorm, tuple[float, ...]] = {
    "linf": (2 / 255, 4 / 255, 8 / 255),
    "l2": (0.25, 0.5),
}
PGD: dict[str, Any] = {"steps": 20, "restarts": 1}
LETTERS = "x0123456789"  # x: wrong without an attack


@dataclass(frozen=True)
class Depth:
    """State how much is measured.

    Args:
        autoattack: The first images, attacked by AutoAttack and certified; 0 for neither.
        batch_size: Images per model call.
    """

    autoattack: int = 64
    batch_size: int = 64


def judged(model: Classifier, batch: Batch, depth: Depth) -> dict[str, Any]:
    """Measure a classifier on test images.

    Args:
        model: In eval mode, on the CPU.
        batch: Clean accuracy and PGD are of all of them.
        depth: How much is measured.

    Returns:
        Plain values: levels per image as texts, one letter each, radii, and processor seconds.
    """
    begun = time.process_time()
    pgd = {norm: pgd_levels(model, batch, norm, depth.batch_size) for norm in BUDGETS}
    found: dict[str, Any] = {
        "clean": float((pgd["l2"] >= 0).double().mean()),
        "pgd": {norm: letters(levels) for norm, levels in pgd.items()},
        "pgd_seconds": round(time.process_time() - begun, 1),
    }
    if not depth.autoattack:
        return found
    few = Batch(*(part[: depth.autoattack] for part in (batch.index, batch.images, batch.labels)))
    for norm in BUDGETS:
        begun = time.process_time()
        claim = certified_radius(model, few.images, norm=norm)
        radii = torch.where(claim.predicted == few.labels, claim.radius, 0.0)
        proved = time.process_time()
        levels = screened_levels(model, few, norm, radii, depth.batch_size)
        levels = torch.minimum(levels, pgd[norm][: depth.autoattack])  # the worst of all attacks
        found |= {
            f"autoattack_{norm}": letters(levels),
            f"certified_{norm}": [float(f"{radius:.4g}") for radius in radii.tolist()],
            f"certified_by_{norm}": {name: claim.method.count(name) for name in set(claim.method)},
            f"seconds_{norm}": [
                round(proved - begun, 1),
                round(time.process_time() - proved, 1),
            ],
        }
    return found


def pgd_levels(model: Classifier, batch: Batch, norm: CertifiedNorm, batch_size: int) -> Tensor:
    """Attack by PGD at rising budgets those who survive.

    Args:
        model: The classifier.
        batch: Images and labels.
        norm: Of the budgets.
        batch_size: Images per model call.

    Returns:
        (B,) levels.
    """
    levels = _start(model, batch, batch_size)
    for number, eps in enumerate(BUDGETS[norm]):
        rows = torch.nonzero(levels == number)[:, 0]
        if len(rows):
            goal = misclassify(model, batch.labels[rows])
            found = attacks.run_attack(
                "pgd", goal, batch.images[rows], Threat(norm, eps), batch_size=batch_size, **PGD
            )
            levels[rows[~found.success]] += 1
    return levels


def screened_levels(
    model: Classifier, batch: Batch, norm: CertifiedNorm, certified: Tensor, batch_size: int
) -> Tensor:
    """Attack by certificates, a minimum-norm attack, and AutoAttack at falling budgets.

    Args:
        model: The classifier.
        batch: Images and labels.
        norm: Of the budgets.
        certified: (B,) radii proved about the label.
        batch_size: Images per model call.

    Returns:
        (B,) levels.
    """
    budgets = BUDGETS[norm]
    levels = _start(model, batch, batch_size)
    right = torch.nonzero(levels >= 0)[:, 0]
    if not len(right):  # nothing to attack
        return levels
    nearest = torch.full((len(levels),), torch.inf, dtype=torch.float64)
    goal = misclassify(model, batch.labels)
    near = attacks.run_attack(
        "fmn", goal.select(right), batch.images[right], Threat(norm, budgets[-1]),
        batch_size=batch_size,
    )  # fmt: skip
    nearest[right] = near.deployed
    for number in range(len(budgets), 0, -1):
        eps = budgets[number - 1]
        # Open: right, not fooled within this ball, not left standing in a larger one.
        rows = torch.nonzero((levels == 0) & (nearest > eps))[:, 0]
        if len(rows):
            found = attacks.screened(
                goal.select(rows), batch.images[rows], Threat(norm, eps),
                certified=certified[rows], batch_size=batch_size,
            ).result  # fmt: skip
            nearest[rows] = torch.minimum(nearest[rows], found.deployed)
            levels[rows[~found.success]] = number
    return levels


def letters(levels: Tensor) -> str:
    """Write levels as a text.

    Args:
        levels: (B,) from -1 on.

    Returns:
        One letter per image.
    """
    return "".join(LETTERS[level + 1] for level in levels.tolist())


def survived(text: str, number: int) -> list[bool]:
    """Read which images are right at a budget.

    Args:
        text: From `letters`.
        number: 0 without an attack, else the budget's number from 1 on.

    Returns:
        One per image.
    """
    return [LETTERS.index(letter) - 1 >= number for letter in text]


def _start(model: Classifier, batch: Batch, batch_size: int) -> Tensor:
    margins = attacks.measure(misclassify(model, batch.labels), batch.images, batch_size=batch_size)
    return torch.where(margins > 0, -1, 0)
