"""Measure calibration without bins."""

from typing import cast

from torch import Tensor

from robustcl.calibration.check_inputs import check_confidence


def smooth_calibration_error(confidence: Tensor, correct: Tensor) -> float:
    """Compute smooth ECE: the residuals smoothed by a kernel whose width the data chooses.

    Computed by the authors' package `relplot`. Unlike bins it is continuous in the confidences,
    and within a constant factor of the distance to the nearest calibrated predictor.

    Args:
        confidence: (N,) in [0, 1].
        correct: (N,) ones where the prediction is right, else zeros.

    Returns:
        A number in [0, 1].

    Reference:
        Blasiok and Nakkiran, Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing,
        ICLR 2024.
    """
    from relplot.metrics import smECE  # it imports seaborn, which takes a second

    values, outcomes = check_confidence(confidence, correct)
    found = smECE(values.double().numpy(), outcomes.numpy())
    return float(cast(float, found))
