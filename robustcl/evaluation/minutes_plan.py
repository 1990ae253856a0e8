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

MINUTES_EPS = {"l2": 0.25, "linf": 2 / 255, "l1": 3.0}
# Shares of the time for clean images, certificates and attacks.
_CLEAN, _CERTIFIED, _ATTACKED = 0.1, 0.38, 0.52
_FEW_CLEAN, _MOST_CLEAN = 50, 10_000
_CLEAN_PASSES = 2  # for the class, and for the embedding that is kept
_ENOUGH = 100  # images for which samples and steps are given up first
_MANY = 400  # images that fit before restarts, or the reference, are worth fewer of them
_QUICK = 0.2  # seconds of an image within which deterministic certificates are computed
_TRIED = 3e-3  # seconds of a pass beyond which they are not tried
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

    Calls of the network are timed on noise, and one deterministic certificate on a gray image: no
    image of the data is looked at.

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
    count = {"certificate": 0, "attack": 0}
    for kind, _ in audit.measures[1:]:
        count[kind] += 1
    parts = {"certificate": _CERTIFIED, "attack": _ATTACKED}
    whole = _CLEAN + sum(share for kind, share in parts.items() if count[kind])
    shares = {text: parts[kind] / count[kind] / whole for kind, text in audit.measures[1:]}
    return MinutesPlan(audit, images, costs, shares, calls)


def _certificate(
    classifier: Classifier,
    audit: EvaluationConfig,
    images: int,
    budget: float,
    calls: CallTimes,
    device: str | torch.device,
) -> tuple[str, Costs]:
    # The deterministic certificate where it is quick, else votes on as many samples as there is
    # time for.
    forward = calls.per_image[0]
    if forward <= _TRIED and audit.norm != "l1":
        seconds = _time_of_sound(classifier, audit, device)
        if seconds <= _QUICK:
            return "sound", Costs(seconds=seconds)
    enough = min(_ENOUGH, images)
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


def _time_of_sound(
    classifier: Classifier, audit: EvaluationConfig, device: str | torch.device
) -> float:
    gray = torch.full((1, *classifier.image_shape), 0.5, device=device)
    method = certify.parse_method("sound")
    try:
        prepared = certify.prepare(method, classifier, norm=audit.norm)
        quick = certify.parse_method("product")
        certify.certificate(quick, classifier, gray, norm=audit.norm, prepared=prepared)
        begun = time.monotonic()
        certify.certificate(method, classifier, gray, norm=audit.norm, prepared=prepared)
    except UnsupportedError:
        return math.inf
    return time.monotonic() - begun


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
