"""Predict roughly how long an audit takes, before it starts."""

import inspect
import time
from collections.abc import Callable
from typing import Any

import torch

from robustcl import attacks, certify
from robustcl.attacks._torchattacks import named_torchattack
from robustcl.core.modules import eval_mode
from robustcl.data.dataset import Dataset
from robustcl.evaluation.job import EvaluationJob, seeds_of
from robustcl.records.kinds import CERTIFIED_BALL

_Passes = tuple[float, float]  # forward passes and gradients per image
SHRINKING = 2.0
TIMED = 32  # images of a pass that is timed
# Of the reference AutoAttack, for an image that withstands it.
AUTOATTACK: _Passes = (7864.0, 1910.0)


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
        passes = _passes(job, kind, text)
        if passes is not None:
            forward, gradient = of_samples if kind == "certificate" else of_attacks
            total += passes[0] * forward + passes[1] * gradient
        elif kind == "certificate":
            total += _timed(lambda text=text: _certify_one(job, dataset, text))
        else:
            unknown.append(text)
    return total * len(dataset), tuple(unknown)


def _passes(job: EvaluationJob, kind: str, text: str) -> _Passes | None:
    views = job.classifier.evaluations
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
        return AUTOATTACK[0] * len(job.audit.eps), AUTOATTACK[1] * len(job.audit.eps)
    options = _options(attacks.ATTACKS[attack.name].function, attack.options)
    budgets = 1 if attacks.ATTACKS[attack.name].minimum_norm else len(job.audit.eps)
    if attack.name == "noise":
        return budgets * views * float(options["draws"]), 0.0
    # What is found at a budget is shrunk and walked to the boundary, which costs about as much.
    return 0.0, SHRINKING * budgets * views * _steps(options)


def _steps(options: dict[str, Any]) -> float:
    starts = options.get("starts_toward", 0) + options.get("starts_random", 0)
    return float(options.get("steps", 1) * max(options.get("restarts", 1), starts, 1))


def _options(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    known = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in known if p.default is not p.empty} | given


def _times(job: EvaluationJob, images: torch.Tensor) -> tuple[float, float]:
    # Seconds per image of a forward pass and of a gradient, in a batch as full as the run's.
    def forward() -> None:
        with torch.no_grad():
            job.classifier(images)

    def gradient() -> None:
        points = images.detach().clone().requires_grad_()
        torch.autograd.grad(job.classifier(points).sum(), points)

    with eval_mode(job.classifier), torch.enable_grad():
        forward()  # a first call is slow
        return _timed(forward) / len(images), _timed(gradient) / len(images)


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
