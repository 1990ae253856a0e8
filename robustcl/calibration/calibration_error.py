"""Measure how far confidence is from accuracy."""

import torch
from torch import Tensor

from robustcl.errors import InputError


def calibration_error(probabilities: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    """Compute the expected calibration error over bins of equal count.

    Images are sorted by confidence and cut into bins of (nearly) equal size; the error is the mean
    over images of |accuracy - mean confidence| of their bin.

    Args:
        probabilities: (N, K) rows that sum to 1.
        labels: (N,) classes.
        bins: Bins at most; never more than images.

    Returns:
        A number in [0, 1].

    Raises:
        InputError: When there is no image or no bin, or the shapes do not match.

    Reference:
        Nguyen and O'Connor, Posterior Calibration and Exploratory Analysis for NLP Models, EMNLP
        2015 (bins of equal count).
    """
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise InputError(
            f"probabilities {tuple(probabilities.shape)} with labels {tuple(labels.shape)}; give "
            "(N, K) and (N,), N >= 1"
        )
    if bins < 1:
        raise InputError(f"bins {bins} is below 1")
    confidence, guesses = probabilities.double().max(dim=1)
    order = confidence.argsort()
    right = (guesses == labels).double()[order]
    total = 0.0
    for rows in torch.arange(len(labels)).tensor_split(min(bins, len(labels))):
        gap = right[rows].mean() - confidence[order][rows].mean()
        total += float(gap.abs()) * len(rows)
    return total / len(labels)
