"""Calibration: from scores to probabilities that come true."""

from robustcl.calibration.calibration_error import calibration_error
from robustcl.calibration.fit_temperature import fit_temperature

__all__ = ["calibration_error", "fit_temperature"]
