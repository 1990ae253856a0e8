"""Choose what fits into some minutes, from the time of passes and never from outcomes.

Images that an attack beats are cheap, so a choice that looked at outcomes would be biased.
"""

import math
import time
from dataclasses import dataclass, replace

import torch

from robustcl import certify
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError, UnsupportedError
from robustcl.core.numbers import time_text
from robustcl.evaluation.call_times import CallTimes, Layout, in_layout, measure_calls
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.expected_time import AUTOATTACK, PassSeconds, passes_of
from robustcl.records.kinds import CERTIFIED_BALL

MINUTES_EPS = {"l2": 0.25, "linf": 2 / 255, "l1": 3.0}
# Shares of the time for clean images, certificates and attacks.
_CLEAN, _CERTIFIED, _ATTACKED = 0.1, 0.38, 0.52
_BALLS = 0.15  # of the attacks' share, for attacks on certified balls
_FEW_CLEAN, _MOST_CLEAN = 50, 10_000
_CLEAN_PASSES = 2  # for the class, and for the embedding that is kept
_ENOUGH = 100  # images for which samples and steps are given up first
_MANY = 400  # images that fit before restarts, or the reference, are worth fewer of them
_TRIED = 3e-3  # seconds of a pass beyond which they are not tried
_TELLING = 0.1  # of the radius by first order, below which a deterministic one tells too little
_NOISE = 32  # noisy images of a call on a CPU, and samples that choose the class
# Samples of an image for a radius; where fewer fit, it is decided whether one radius is certified,
# and samples end as soon as that is clear.
_SAMPLES = (10_000, 5_000, 2_000, 1_000)
_DECIDING, _DECIDED = (1_000, 500, 200, 100, 64), 4
_STEPS = (100, 40, 20, 10)
_CONFIRMING = 12  # gradients as long as which points are confirmed in float64, mostly


@dataclass(frozen=True)
class Costs:
    """State what an image costs at most by one measure.

    Args:
        passes: Forward passes and gradients through the model.
        seconds: Beside them.
    """

    passes: PassSeconds = (0.0, 0.0)
    seconds: float = 0.0

    def of(self, images: int, calls: CallTimes) -> float:
        """Compute the most seconds that images take which are begun together.

        Args:
            images: How many.
            calls: What calls of the model take.

        Returns:
            Seconds.
        """
        return calls.seconds(self.passes, images) + images * self.seconds


@dataclass(frozen=True)
class MinutesPlan:
    """State what is measured in the minutes, and what it costs at most.

    Args:
        audit: Methods and attacks.
        images: The first images of which the clean class is asked.
        costs: By method, what one image costs at most.
        shares: By method, its share of the time.
        calls: What calls of the model take.
    """

    audit: EvaluationConfig
    images: int
    costs: dict[str, Costs]
    shares: dict[str, float]
    calls: CallTimes

    @property
    def passes(self) -> PassSeconds:
        """Seconds of a forward pass and of a gradient, per image."""
        return self.calls.per_image


def choose_plan(
    classifier: Classifier,
    audit: EvaluationConfig,
    *,
    seconds: float,
    available: int | None = None,
    device: str | torch.device = "cpu",
    methods: bool = True,
    attacks: bool = True,
    layout: Layout | None = None,
) -> MinutesPlan:
    """Choose methods, images, samples and steps from a short measurement of time.

    Calls of the network are timed on noise, and a deterministic certificate is tried on a gray
    image and on one of noise: no image of the data is looked at.

    Args:
        classifier: The model, on the device and in eval mode.
        audit: Norm, seed, and what the user has asked for.
        seconds: Of the whole run.
        available: Images that there are; None where that is not known.
        device: Where to compute.
        methods: Whether certificates are to be chosen; otherwise those of the audit stand.
        attacks: Whether attacks are to be chosen, likewise.
        layout: Of the weights in memory, where a run has one that is gone on with.

    Returns:
        The plan.

    Raises:
        InputError: When not even a few images fit in the time.
    """
    calls = measure_calls(classifier, device, most=audit.batch_size, layout=layout)
    forward = calls.per_image[0]
    clean = _CLEAN_PASSES * forward
    few = min(_FEW_CLEAN, available or _FEW_CLEAN)
    if clean * few > 0.5 * seconds:
        raise InputError(
            f"--minutes {seconds / 60:g} is too short: {few} images alone take "
            f"{time_text(forward * few)}; give at least {math.ceil(forward * 2 * few / 30)}"
        )
    images = min(_MOST_CLEAN, max(_FEW_CLEAN, int(_CLEAN * seconds / clean)))
    images = min(images, available or images)
    costs: dict[str, Costs] = {}
    with in_layout(classifier, calls.layout):
        if methods:
            budget = _CERTIFIED * seconds
            text, cost = _certificate(classifier, audit, images, budget, calls, device)
            audit, costs[text] = replace(audit, methods=(text,)), cost
        if attacks:
            audit, cost = _attack(audit, images, _ATTACKED * seconds, calls)
            costs[audit.attacks[0]] = cost
        for kind, text in audit.measures[1:]:
            if text not in costs:
                costs[text] = _cost(audit, kind, text, classifier, device)
    return MinutesPlan(audit, images, costs, _shares(audit), calls)


def _shares(audit: EvaluationConfig) -> dict[str, float]:
    # Of the time that clean images leave: weights, which need not have the sum 1.
    found = {text: _CERTIFIED / len(audit.methods) for text in audit.methods}
    balls = _BALLS if audit.tests_balls else 0.0
    if audit.tests_balls:
        found[CERTIFIED_BALL] = balls * _ATTACKED
    return found | {text: (1.0 - balls) * _ATTACKED / len(audit.attacks) for text in audit.attacks}


def _certificate(
    classifier: Classifier,
    audit: EvaluationConfig,
    images: int,
    budget: float,
    calls: CallTimes,
    device: str | torch.device,
) -> tuple[str, Costs]:
    # The best deterministic certificate that tells something and leaves room for enough images;
    # else votes on as many samples as there is time for.
    forward, enough = calls.per_image[0], min(_ENOUGH, images)
    if forward <= _TRIED and audit.norm != "l1":
        for text, (seconds, share) in _try_certificates(classifier, audit, device).items():
            if enough * seconds <= budget and share >= _TELLING:
                return text, Costs(seconds=seconds)
    n = next((n for n in _SAMPLES if (n + _NOISE) * forward * enough <= budget), None)
    target = ""
    if n is None and len(audit.eps) == 1 and audit.norm != "l1":
        fits = (n for n in _DECIDING if (n + _NOISE) * forward * _DECIDED <= budget)
        n, target = next(fits, _DECIDING[-1]), f",target={audit.eps[0]:.9g}"
    elif n is None:
        fits = (n for n in _DECIDING[:-1] if (n + _NOISE) * forward * enough <= budget)
        n = next(fits, _DECIDING[-2])
    samples = _NOISE * (1 + math.ceil(n / _NOISE))  # batches of an image are filled up
    return f"smoothing:sigma=.25,n={n},n_select={_NOISE}{target}", Costs((float(samples), 0.0))


def _try_certificates(
    classifier: Classifier, audit: EvaluationConfig, device: str | torch.device
) -> dict[str, tuple[float, float]]:
    # By deterministic certificate, the best first: seconds of an image, and its radius as a share
    # of the one by first order, which is near the true one. None for a network that none treats.
    shape = (1, *classifier.image_shape)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)
    points = torch.cat([torch.full(shape, 0.5, device=device), noise])
    found: dict[str, tuple[float, float]] = {}
    try:
        prepared = certify.prepare(certify.parse_method("sound"), classifier, norm=audit.norm)
        rough = certify.parse_method("first_order")
        near = certify.certificate(rough, classifier, points, norm=audit.norm).radius
        for text in ("product", "sound"):  # a first call is slow
            method, begun = certify.parse_method(text), time.monotonic()
            proved = certify.certificate(
                method, classifier, points, norm=audit.norm, prepared=prepared
            ).radius
            seconds = (time.monotonic() - begun) / len(points)
            shares = (proved / near.to(proved).clamp_min(1e-300)).nan_to_num(0.0, 1.0, 0.0)
            found[text] = seconds, float(shares.max())
    except UnsupportedError:
        return {}
    return dict(reversed(found.items()))


def _attack(
    audit: EvaluationConfig, images: int, budget: float, calls: CallTimes
) -> tuple[EvaluationConfig, Costs]:
    # The strongest of a row of attacks of which an image that withstands it leaves room for enough
    # others: below some hundred images the interval is wider than what more strength would find.
    gradient = calls.per_image[1]
    many, enough = min(_MANY, images), min(_ENOUGH, images)
    if len(audit.eps) > 1:
        steps = next((n for n in _STEPS if n * gradient * enough <= budget), _STEPS[-1])
        audit = replace(audit, attacks=(f"fmn:steps={steps}",), screened=False, one_budget=False)
        return audit, Costs(passes_of(audit, 1, "attack", audit.attacks[0]) or (0.0, 0.0))
    reference = Costs(AUTOATTACK)
    together = reference.of(calls.batch, calls) / calls.batch
    if audit.norm != "l1" and not audit.views and many * together <= budget:
        return replace(audit, attacks=("autoattack",), screened=True, one_budget=False), reference
    ladder = [(100, 5, many), *((steps, 1, enough) for steps in _STEPS)]
    affordable = (
        (steps, restarts)
        for steps, restarts, wanted in ladder
        if wanted * (steps * restarts + _CONFIRMING) * gradient <= budget
    )
    steps, restarts = next(affordable, (_STEPS[-1], 1))
    cost = Costs((0.0, float(steps * restarts + _CONFIRMING)))
    text = f"pgd:steps={steps},restarts={restarts}"
    return replace(audit, attacks=(text,), screened=False, one_budget=True), cost


def _cost(
    audit: EvaluationConfig,
    kind: str,
    text: str,
    classifier: Classifier,
    device: str | torch.device,
) -> Costs:
    passes = passes_of(audit, 1, kind, text)
    if passes is not None:
        return Costs(passes)
    if kind == "attack":
        return Costs()  # not known; the clock alone decides
    gray = torch.full((1, *classifier.image_shape), 0.5, device=device)
    method = certify.parse_method(text)
    prepared = certify.prepare(method, classifier, norm=audit.norm)
    begun = time.monotonic()
    certify.certificate(method, classifier, gray, norm=audit.norm, seeds=[0], prepared=prepared)
    return Costs(seconds=time.monotonic() - begun)
