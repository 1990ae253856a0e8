"""Reduce probabilities to the confidence in the predicted class and whether it is right."""

from torch import Tensor

from robustcl.calibration.check_inputs import check_probabilities


def top_label(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the highest probability of each image and whether its class is the label.

    Args:
        probabilities: (N, K) rows that sum to 1.
        labels: (N,) classes.

    Returns:
        (N,) confidences in the type of the probabilities, so that one that is a bin's edge stays
        so, and (N,) float64 ones where the prediction is right, else zeros.
    """
    shares, classes = check_probabilities(probabilities, labels)
    confidence, guesses = shares.max(dim=1)
    return confidence, (guesses == classes).double()
