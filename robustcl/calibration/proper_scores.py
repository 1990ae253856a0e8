"""Score probabilities by rules that the true probability alone minimizes."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.calibration.calibration_error import binned
from robustcl.calibration.check_inputs import check_count, check_probabilities

TINY = 1e-300


def negative_log_likelihood(probabilities: Tensor, labels: Tensor) -> float:
    """Compute the mean of -log P(label).

    Args:
        probabilities: (N, K) rows that sum to 1.
        labels: (N,) classes.

    Returns:
        The mean in nats; 690 for a label of probability 0, instead of infinity.
    """
    shares, classes = check_probabilities(probabilities, labels)
    own = shares.double().gather(1, classes[:, None])
    return float(-own.clamp_min(TINY).log().mean())


@dataclass(frozen=True)
class Brier:
    """Hold a Brier score and its parts: score = reliability - resolution + uncertainty + within.

    Args:
        score: Mean over images of the sum over classes of (P(class) - outcome)^2, in [0, 2].
        reliability: Squared gap between mean probability and frequency in a bin: miscalibration.
        resolution: How far the bins' frequencies are from the overall ones: more is better.
        uncertainty: Of the labels themselves.
        within: What the spread of probabilities inside bins adds, small for many bins.
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


def brier(probabilities: Tensor, labels: Tensor, *, bins: int = 15) -> Brier:
    """Compute the Brier score and decompose it, class by class, over bins of equal count.

    Args:
        probabilities: (N, K) rows that sum to 1.
        labels: (N,) classes.
        bins: Bins at most, per class.

    Returns:
        The score and its parts, summed over classes.

    Reference:
        Murphy, A New Vector Partition of the Probability Score, 1973; Stephenson et al., Two Extra
        Components in the Brier Score Decomposition, 2008, for the term within bins.
    """
    check_count("bins", bins)
    values, classes = check_probabilities(probabilities, labels)
    shares = values.double()
    outcomes = functional.one_hot(classes, shares.shape[1]).double()
    score = float(((shares - outcomes) ** 2).sum(dim=1).mean())
    parts = torch.zeros(3, dtype=torch.float64)
    for share, outcome in zip(shares.unbind(1), outcomes.unbind(1), strict=True):
        base = outcome.mean()
        parts[2] += base * (1.0 - base)
        for rows, seen in binned(share, outcome, bins=bins, cut="mass"):
            weight, frequency = len(rows) / len(share), seen.mean()
            parts[0] += weight * (share[rows].mean() - frequency) ** 2
            parts[1] += weight * (frequency - base) ** 2
    reliability, resolution, uncertainty = parts.tolist()
    within = score - reliability + resolution - uncertainty
    return Brier(score, reliability, resolution, uncertainty, within)
