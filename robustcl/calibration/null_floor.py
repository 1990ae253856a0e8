"""Say what a calibration error is worth: what a perfectly calibrated model would show."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustcl.calibration.check_inputs import check_count, check_unit


def null_floor(
    metric: Callable[[Tensor, Tensor], float],
    confidence: Tensor,
    *,
    draws: int = 100,
    seed: int = 0,
) -> tuple[float, float]:
    """Draw outcomes that follow the confidences exactly and measure them.

    Args:
        metric: Of (N,) confidences and (N,) outcomes.
        confidence: (N,) in [0, 1].
        draws: Draws of all outcomes.
        seed: Seed of the draws.

    Returns:
        Mean and 95 % quantile of the metric. A value below the quantile is no evidence of
        miscalibration.
    """
    check_count("draws", draws)
    values = check_unit(confidence)
    shares = values.double()
    generator = torch.Generator().manual_seed(seed)
    found = [metric(values, torch.bernoulli(shares, generator=generator)) for _ in range(draws)]
    measured = torch.tensor(found, dtype=torch.float64)
    return float(measured.mean()), float(measured.quantile(0.95))
