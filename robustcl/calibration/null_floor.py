"""Say what a calibration error is worth: what a perfectly calibrated model would show."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustcl.calibration.top_label import check_confidence
from robustcl.errors import InputError


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

    Raises:
        InputError: When there are no draws.
    """
    if draws < 1:
        raise InputError(f"draws {draws} is below 1")
    check_confidence(confidence, confidence)
    generator = torch.Generator().manual_seed(seed)
    shares = confidence.double().cpu()
    values = [metric(shares, torch.bernoulli(shares, generator=generator)) for _ in range(draws)]
    found = torch.tensor(values, dtype=torch.float64)
    return float(found.mean()), float(found.quantile(0.95))
