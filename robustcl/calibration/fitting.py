"""Fit a temperature, and measure calibration."""

import math
from dataclasses import asdict

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.calibration.checks import check_confidence, check_scores
from robustcl.calibration.errors import (
    calibration_error,
    classwise_calibration_error,
    debiased_calibration_error,
    null_floor,
    smooth_calibration_error,
    top_label,
)
from robustcl.calibration.scoring import (
    augrc,
    aurc,
    brier,
    negative_log_likelihood,
    risk_at_coverage,
)

LOW, HIGH = 1e-6, 1e3  # of T, where scores spread by 1
ROUNDS = 80


def fit_temperature(scores: Tensor, labels: Tensor) -> float:
    """Minimize the negative log likelihood of softmax(scores / T) on held-out images.

    A similarity to a prototype is not a probability: its softmax needs a T well below 1. The
    likelihood is convex in 1 / T, so a search by golden section finds the one optimum.

    Where all N images are right there is none: the smaller T, the likelier the labels, and the
    first wrong image afterwards would cost without bound. There the label's target is
    (N + 1) / (N + 2) instead of 1, and the other classes share the rest: the rule
    of succession, as Platt has it.

    Args:
        scores: (N, K) of images that the head was not fitted on.
        labels: (N,) their classes.

    Returns:
        T, in [1e-6, 1000] times the largest spread of the scores of an image. Where a smaller or a
        larger T would always be likelier, it is the end of that interval.

    Raises:
        InputError: When there is no image, the shapes do not match, a label is no class, or a score
            is not finite.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
        Platt, Probabilistic Outputs for Support Vector Machines, 1999, section 2.2.
    """
    values, classes = check_scores(scores, labels)
    values = values - values.amax(dim=1, keepdim=True)  # the same softmax, and nothing overflows
    spread = float(values.amin().neg().clamp(max=1e300))
    spread = spread if spread > 1e-300 else 1.0  # of scores that are all equal
    values, targets = values / spread, _targets(values, classes)

    def cost(log_inverse: float) -> float:
        return float(functional.cross_entropy(values * math.exp(log_inverse), targets))

    # Convex in 1 / T, hence with one minimum in its logarithm as well.
    low, high = math.log(1.0 / HIGH), math.log(1.0 / LOW)
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    for _ in range(ROUNDS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if cost(left) <= cost(right):
            high = right
        else:
            low = left
    return spread * math.exp(-(low + high) / 2.0)


def _targets(scores: Tensor, labels: Tensor) -> Tensor:
    count, classes = scores.shape
    own = scores.gather(1, labels[:, None])[:, 0]
    if classes == 1 or bool((own < scores.max(dim=1).values).any()):
        return labels
    wrong = 1.0 / (count + 2)
    share = torch.full_like(scores, wrong / (classes - 1))
    return share.scatter(1, labels[:, None], 1.0 - wrong)


COVERAGES = (0.8, 0.9, 0.95)


def measure_calibration(
    probabilities: Tensor, labels: Tensor, *, floor_draws: int = 100
) -> dict[str, float]:
    """Compute proper scores, calibration errors and selective risks.

    Args:
        probabilities: (N, K) rows that sum to 1.
        labels: (N,) classes.
        floor_draws: Draws of the null floor.

    Returns:
        By name: accuracy; nll; brier and its parts as brier_reliability, ...; what
        `measure_confidence` gives; classwise.
    """
    confidence, correct = top_label(probabilities, labels)
    parts = asdict(brier(probabilities, labels))
    return {
        "accuracy": float(correct.mean()),
        "nll": negative_log_likelihood(probabilities, labels),
        "brier": parts.pop("score"),
        **{f"brier_{name}": value for name, value in parts.items()},
        **measure_confidence(confidence, correct, floor_draws=floor_draws),
        "classwise": classwise_calibration_error(probabilities, labels),
    }


def measure_confidence(
    confidence: Tensor, correct: Tensor, *, floor_draws: int = 100
) -> dict[str, float]:
    """Compute what needs only the confidence in the predicted class.

    Args:
        confidence: (N,) in [0, 1], a probability or a clipped similarity.
        correct: (N,) ones and zeros.
        floor_draws: Draws of the null floor.

    Returns:
        smooth_ece, debiased, ece15 with ece15_floor and ece15_floor95 (mean and 95 % quantile of a
        calibrated model), aurc, augrc, risk80, risk90, risk95. `debiased` of one image is NaN.
    """
    values, outcomes = check_confidence(confidence, correct)

    def ece15(values: Tensor, outcomes: Tensor) -> float:
        return calibration_error(values, outcomes, bins=15, cut="width")

    floor, floor95 = null_floor(ece15, values, draws=floor_draws)
    several = len(values) > 1
    return {
        "smooth_ece": smooth_calibration_error(values, outcomes),
        "debiased": debiased_calibration_error(values, outcomes) if several else math.nan,
        "ece15": ece15(values, outcomes),
        "ece15_floor": floor,
        "ece15_floor95": floor95,
        "aurc": aurc(values, outcomes),
        "augrc": augrc(values, outcomes),
        **{f"risk{round(100 * c)}": risk_at_coverage(values, outcomes, c) for c in COVERAGES},
    }
