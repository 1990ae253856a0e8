"""Set `attacks.screened` beside the reference AutoAttack."""

import logging
from typing import Any, cast

import torch
from torch import Tensor

from robustcl import attacks
from robustcl.certify import product
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import UnsupportedError
from robustcl.core.objectives import misclassify
from robustcl.core.threat import Threat
from robustcl.studies.peers.comparison import (
    Comparison,
    ComparisonInputs,
    compare_programs,
    import_peer,
    named,
)

BUDGETS: dict[CertifiedNorm, float] = {"linf": 8 / 255, "l2": 0.5}
_NAMES: dict[str, Any] = {"l2": "L2", "linf": "Linf"}
_MOST_REPEATS = 3


def compare_autoattack(inputs: ComparisonInputs) -> list[Comparison]:
    """Compare robust accuracy, then time, at L2 0.5 and Linf 8/255.

    Ours is the same package behind a certificate and a round of PGD; the time of the certificate
    is part of it.

    Args:
        inputs: Model and images.

    Returns:
        One comparison per norm.
    """
    import_peer("pyautoattack", cure="pip install pyautoattack")
    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    batch = inputs.test.batch(range(len(inputs.test))).to(inputs.device)
    found = []
    for norm, eps in BUDGETS.items():
        threat = Threat(norm, eps)
        arguments = (inputs.model, batch.images, batch.labels, threat, inputs.batch_size)
        found.append(
            compare_programs(
                inputs,
                f"AutoAttack 'standard', {norm} {eps:.4g}, {len(batch)} images",
                named("pyautoattack"),
                ours=lambda arguments=arguments: screened_robust(*arguments),
                theirs=lambda arguments=arguments: reference_robust(*arguments),
                agreement=_agreement,
                most_repeats=_MOST_REPEATS,
            )
        )
    return found


def reference_points(
    model: Classifier, images: Tensor, labels: Tensor, threat: Threat, batch_size: int
) -> Tensor:
    """Run the reference alone, as its README says.

    Args:
        model: The network; gradients that it leaves behind in the weights are removed.
        images: Test images.
        labels: Their classes.
        threat: CertifiedNorm and budget.
        batch_size: Images per call.

    Returns:
        Its points.
    """
    from pyautoattack import AutoAttack

    adversary = AutoAttack(
        model,
        norm=_NAMES[threat.norm],
        eps=float(threat.eps),
        version="standard",
        seed=0,
        device=images.device,
    )
    found, _ = adversary.run_standard_evaluation(images, labels, batch_size=batch_size)
    for weight in model.parameters():
        weight.grad = None
    return found


def reference_robust(
    model: Classifier, images: Tensor, labels: Tensor, threat: Threat, batch_size: int
) -> Tensor:
    """Run the reference alone and measure its points again.

    Args:
        model: The network.
        images: Test images.
        labels: Their classes.
        threat: CertifiedNorm and budget.
        batch_size: Images per call.

    Returns:
        (B,) whether an image is right and was not fooled.
    """
    points = reference_points(model, images, labels, threat, batch_size)
    return ~(attacks.measure(misclassify(model, labels), points, batch_size=batch_size) > 0)


def screened_robust(
    model: Classifier, images: Tensor, labels: Tensor, threat: Threat, batch_size: int
) -> Tensor:
    """Run the screened attack, with the product of norms as certificate where it applies.

    Args:
        model: The network.
        images: Test images.
        labels: Their classes.
        threat: CertifiedNorm and budget.
        batch_size: Images per call.

    Returns:
        (B,) whether an image is right and was not fooled.
    """
    try:
        claim = product(model, images, norm=cast(CertifiedNorm, threat.norm))
        certified = torch.where(claim.predicted == labels, claim.radius, 0.0)
    except UnsupportedError:
        certified = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    found = attacks.screened(
        misclassify(model, labels), images, threat, certified=certified, batch_size=batch_size
    )
    return ~found.result.success


def _agreement(ours: Tensor, theirs: Tensor) -> tuple[bool, str]:
    ours, theirs = ours.cpu(), theirs.cpu()
    missed, more = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
    text = (
        f"robust accuracy {float(ours.double().mean()):.1%} and {float(theirs.double().mean()):.1%}"
        f"; fooled by one side only: {more} by ours, {missed} by theirs"
    )
    return missed <= max(1, len(ours) // 100), text
