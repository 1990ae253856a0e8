"""Predict roughly how long an audit takes, before it starts."""

import inspect
import time
from collections.abc import Callable
from typing import Any

import torch

from robustcl import attacks, certify
from robustcl.attacks._torchattacks import named_torchattack
from robustcl.core.classifier import Classifier
from robustcl.core.modules import eval_mode
from robustcl.data.dataset import Dataset
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.job import EvaluationJob, seeds_of
from robustcl.records.kinds import CERTIFIED_BALL

PassSeconds = tuple[float, float]  # forward passes and gradients per image
# Gradients per image with which a point that was found is brought to the boundary: bisection by
# PGD where the attack is none of minimum norm, and the walk along the boundary.
BISECTION, WALK = 512.0, 40.0
TIMED = 32  # images of a pass that is timed
# Of the reference AutoAttack, for an image that withstands it.
AUTOATTACK: PassSeconds = (7864.0, 1910.0)


def expected_seconds(job: EvaluationJob, dataset: Dataset) -> tuple[float, tuple[str, ...]]:
    """Predict the time of an audit on this process.

    Attacks and certificates that sample are predicted by their numbers of passes, each timed here;
    an attack ends sooner on an image that it fools, and other work on the machine counts in
    neither: a rough figure. Certificates that
    propagate bounds are timed on one image.

    Args:
        job: What is measured.
        dataset: The images.

    Returns:
        Seconds, and the measures of which nothing is known.
    """
    most = min(job.batch_size, TIMED)
    images = dataset.batch(range(min(most, len(dataset)))).images.to(job.device)
    # Attacks take the images that there are; what samples fills its batches with noise.
    of_attacks = _times(job, images)
    filled = images.repeat(-(-most // len(images)), 1, 1, 1)[:most]
    of_samples = of_attacks if len(filled) == len(images) else _times(job, filled)
    total, unknown = 0.0, []
    for kind, text in job.audit.measures:
        passes = passes_of(job.audit, job.classifier.evaluations, kind, text)
        if passes is not None:
            forward, gradient = of_samples if kind == "certificate" else of_attacks
            total += passes[0] * forward + passes[1] * gradient
        elif kind == "certificate":
            total += _timed(lambda text=text: _certify_one(job, dataset, text))
        else:
            unknown.append(text)
    return total * len(dataset), tuple(unknown)


def passes_of(audit: EvaluationConfig, views: int, kind: str, text: str) -> PassSeconds | None:
    """Count the passes that a measure takes for an image, at most.

    Args:
        audit: What is measured.
        views: PassSeconds of one call of the model.
        kind: Of the measure.
        text: Its method.

    Returns:
        Forward passes and gradients; None for what does not go by passes, or is not known.
    """
    if kind == "clean":
        return views, 0.0
    if kind == "certificate":
        method = certify.parse_method(text)
        options = _options(certify.METHODS[method.name].function, method.options)
        if method.name == "smoothing":
            return views * float(options["n"] + options["n_select"]), 0.0
        if method.name == "clever":
            return 0.0, float(options["batches"] * options["samples"])
        return None
    if text == CERTIFIED_BALL:
        options = _options(attacks.ATTACKS["surface"].function, {})
        return 0.0, views * _steps(options)
    if named_torchattack(text) is not None:
        return None
    attack = attacks.parse_attack(text)
    if attack.name == "autoattack":
        return AUTOATTACK[0] * len(audit.eps), AUTOATTACK[1] * len(audit.eps)
    options = _options(attacks.ATTACKS[attack.name].function, attack.options)
    budgets = 1 if attacks.ATTACKS[attack.name].minimum_norm else len(audit.eps)
    if attack.name == "noise":
        return budgets * views * float(options["draws"]), 0.0
    if audit.one_budget:
        return 0.0, views * _steps(options)
    # What is found at a budget is brought to the boundary.
    nearest = attacks.ATTACKS[attack.name].minimum_norm
    return 0.0, views * (budgets * _steps(options) + WALK + (0.0 if nearest else BISECTION))


def _steps(options: dict[str, Any]) -> float:
    starts = options.get("starts_toward", 0) + options.get("starts_random", 0)
    return float(options.get("steps", 1) * max(options.get("restarts", 1), starts, 1))


def _options(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    known = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in known if p.default is not p.empty} | given


def pass_times(classifier: Classifier, count: int, device: str | torch.device) -> PassSeconds:
    """Time a pass through the network on noise, of which a model of several views takes several.

    Args:
        classifier: The model, on the device.
        count: Images of a pass.
        device: Where to compute.

    Returns:
        Seconds per image of a forward pass and of a gradient.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, *classifier.image_shape, generator=generator)
    return _times_of(classifier, images.to(device))


def _times(job: EvaluationJob, images: torch.Tensor) -> PassSeconds:
    return _times_of(job.classifier, images)


def _times_of(classifier: Classifier, images: torch.Tensor) -> PassSeconds:
    # Seconds per image of a forward pass and of a gradient, in a batch as full as the run's.
    def forward() -> None:
        with torch.no_grad():
            classifier(images)

    def gradient() -> None:
        points = images.detach().clone().requires_grad_()
        torch.autograd.grad(classifier(points).sum(), points)

    with eval_mode(classifier), torch.enable_grad():
        forward()  # a first call is slow
        passes = len(images) * classifier.evaluations
        return _timed(forward) / passes, _timed(gradient) / passes


def _certify_one(job: EvaluationJob, dataset: Dataset, text: str) -> None:
    batch = dataset.batch([len(dataset) // 2]).to(job.device)
    certify.certificate(
        certify.parse_method(text),
        job.classifier,
        batch.images,
        norm=job.audit.norm,
        seeds=seeds_of(job, batch, text),
        prepared=job.prepared[text],
    )


def _timed(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic() - begun
