"""Reduce probabilities to the confidence in the predicted class and whether it is right."""

import torch
from torch import Tensor

from robustcl.errors import InputError

SUM_TOLERANCE = 1e-4


def top_label(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the highest probability of each image and whether its class is the label.

    Args:
        probabilities: (N, K) rows that sum to 1.
        labels: (N,) classes.

    Returns:
        (N,) float64 confidences and (N,) float64 ones where the prediction is right, else zeros.
    """
    check_probabilities(probabilities, labels)
    confidence, guesses = probabilities.double().max(dim=1)
    return confidence.clamp(max=1.0), (guesses == labels).double()


def check_probabilities(probabilities: Tensor, labels: Tensor) -> None:
    """Refuse what is no probability over classes.

    Args:
        probabilities: (N, K).
        labels: (N,) classes.

    Raises:
        InputError: When the shapes do not match, there is no image, a label is outside the classes,
            or a row is not a probability.
    """
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise InputError(
            f"probabilities {tuple(probabilities.shape)} with labels {tuple(labels.shape)}; give "
            "(N, K) and (N,), N >= 1"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= probabilities.shape[1]:
        raise InputError(
            f"labels from {int(labels.min())} to {int(labels.max())} with "
            f"{probabilities.shape[1]} classes; labels are 0 to K - 1"
        )
    sums = probabilities.double().sum(dim=1)
    bad = ~((sums - 1.0).abs() <= SUM_TOLERANCE) | (probabilities < 0).any(dim=1)
    if bool(bad.any()):
        row = int(torch.nonzero(bad)[0, 0])
        raise InputError(
            f"row {row} of the probabilities sums to {float(sums[row]):g} or has a negative or NaN "
            "entry; apply softmax(scores / T) first"
        )


def check_confidence(confidence: Tensor, correct: Tensor) -> None:
    """Refuse confidences outside [0, 1], or outcomes that are not one per confidence.

    Args:
        confidence: (N,).
        correct: (N,) ones and zeros.

    Raises:
        InputError: When they are not usable.
    """
    if confidence.ndim != 1 or correct.shape != confidence.shape or not len(confidence):
        raise InputError(
            f"confidence {tuple(confidence.shape)} with outcomes {tuple(correct.shape)}; give (N,) "
            "and (N,), N >= 1"
        )
    if not bool(((confidence >= 0) & (confidence <= 1)).all()):
        raise InputError(
            f"confidence from {float(confidence.min()):g} to {float(confidence.max()):g} is not in "
            "[0, 1]; clip similarities, or fit a temperature"
        )
