"""Calibration: from scores to probabilities that come true."""

from robustcl.calibration.bootstrap import Interval, bootstrap, paired_mean
from robustcl.calibration.calibration_error import calibration_error, debiased_calibration_error
from robustcl.calibration.check_held_out import check_held_out
from robustcl.calibration.classwise_calibration_error import classwise_calibration_error
from robustcl.calibration.fit_temperature import fit_temperature
from robustcl.calibration.measure_calibration import measure_calibration, measure_confidence
from robustcl.calibration.null_floor import null_floor
from robustcl.calibration.proper_scores import Brier, brier, negative_log_likelihood
from robustcl.calibration.selective import augrc, aurc, risk_at_coverage, risk_coverage
from robustcl.calibration.smooth_calibration_error import smooth_calibration_error
from robustcl.calibration.top_label import top_label

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
