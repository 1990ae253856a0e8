"""Measure everything about a set of probabilities in one go."""

import math
from dataclasses import asdict

from torch import Tensor

from robustcl.calibration.calibration_error import calibration_error, debiased_calibration_error
from robustcl.calibration.check_inputs import check_confidence
from robustcl.calibration.classwise_calibration_error import classwise_calibration_error
from robustcl.calibration.null_floor import null_floor
from robustcl.calibration.proper_scores import brier, negative_log_likelihood
from robustcl.calibration.selective import augrc, aurc, risk_at_coverage
from robustcl.calibration.smooth_calibration_error import smooth_calibration_error
from robustcl.calibration.top_label import top_label

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
