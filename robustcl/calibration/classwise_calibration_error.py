"""Measure the calibration of every class's probability."""

import torch
from torch import Tensor

from robustcl.calibration.calibration_error import Cut, calibration_error
from robustcl.calibration.check_inputs import check_probabilities


def classwise_calibration_error(
    probabilities: Tensor, labels: Tensor, *, bins: int = 15, cut: Cut = "width"
) -> float:
    """Compute the mean over classes of the error of P(class) as the chance of that class.

    Args:
        probabilities: (N, K) rows that sum to 1.
        labels: (N,) classes.
        bins: Bins at most.
        cut: As in `calibration_error`.

    Returns:
        A number in [0, 1].

    Reference:
        Kull et al., Beyond temperature scaling, NeurIPS 2019 (classwise ECE).
    """
    shares, classes = check_probabilities(probabilities, labels)
    errors = [
        calibration_error(column, classes == k, bins=bins, cut=cut)
        for k, column in enumerate(shares.unbind(1))
    ]
    return float(torch.tensor(errors, dtype=torch.float64).mean())
