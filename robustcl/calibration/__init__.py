"""Calibration: from scores to probabilities that come true."""

from robustcl.calibration.checks import check_held_out
from robustcl.calibration.errors import (
    calibration_error,
    classwise_calibration_error,
    debiased_calibration_error,
    null_floor,
    smooth_calibration_error,
    top_label,
)
from robustcl.calibration.fitting import fit_temperature, measure_calibration, measure_confidence
from robustcl.calibration.intervals import Interval, bootstrap, paired_mean
from robustcl.calibration.scoring import (
    Brier,
    augrc,
    aurc,
    brier,
    negative_log_likelihood,
    risk_at_coverage,
    risk_coverage,
)

__all__ = [
    "Brier",
    "Interval",
    "augrc",
    "aurc",
    "bootstrap",
    "brier",
    "calibration_error",
    "check_held_out",
    "classwise_calibration_error",
    "debiased_calibration_error",
    "fit_temperature",
    "measure_calibration",
    "measure_confidence",
    "negative_log_likelihood",
    "null_floor",
    "paired_mean",
    "risk_at_coverage",
    "risk_coverage",
    "smooth_calibration_error",
    "top_label",
]
