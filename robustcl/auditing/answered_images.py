"""Calibrate on the images for which a model gives scores, and count the others as wrong."""

import torch
from torch import Tensor

from robustcl.calibration import fit_temperature, measure_calibration
from robustcl.core.abstention import answered, predict
from robustcl.core.errors import InputError


def temperature_of(scores: Tensor, labels: Tensor) -> float:
    """Fit a temperature on the images that have scores.

    Args:
        scores: (N, K) of held-out images; those that are not finite are left out.
        labels: (N,) their classes.

    Returns:
        T.
    """
    known = _some(scores)
    return fit_temperature(scores[known], labels[known])


def shares_of(scores: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Turn the scores of images that have some into probabilities.

    Args:
        scores: (N, K).
        labels: (N,) classes.
        temperature: T.

    Returns:
        (M, K) probabilities and (M,) classes of the M <= N images whose scores are finite.
    """
    known = _some(scores)
    return torch.softmax(scores[known].double() / temperature, dim=1), labels[known]


def calibration_of(scores: Tensor, labels: Tensor, temperature: float) -> dict[str, float]:
    """Measure calibration.

    Args:
        scores: (N, K).
        labels: (N,) classes.
        temperature: T.

    Returns:
        As `measure_calibration` of the images that have scores, but for the accuracy, in which the
        others are wrong, and `abstained`, their number.
    """
    found = measure_calibration(*shares_of(scores, labels, temperature))
    found["accuracy"] = float((predict(scores) == labels).double().mean())
    return {**found, "abstained": float((~answered(scores)).sum())}


def _some(scores: Tensor) -> Tensor:
    known = answered(scores)
    if not bool(known.any()):
        raise InputError(
            f"the model abstains on all {len(scores)} images, as its embeddings are 0 or not "
            "finite; train it again, or give other images"
        )
    return known
