"""Proper scores, and what answering only the surest gains."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.calibration.checks import check_count, check_probabilities, check_ranking
from robustcl.calibration.errors import binned
from robustcl.core.errors import InputError

_TINY = 1e-300


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
    return float(-own.clamp_min(_TINY).log().mean())


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


def selective_errors(confidence: Tensor, correct: Tensor) -> Tensor:
    """Count the errors among the i most confident images, for every i.

    Images of the same confidence are accepted in random order, of which the mean is taken.

    Args:
        confidence: (N,) any numbers, higher for surer.
        correct: (N,) ones where the prediction is right, else zeros.

    Returns:
        (N,) float64 expected numbers of errors.
    """
    ranked, right = check_ranking(confidence, correct)
    values, wrong = -ranked.double(), 1.0 - right
    _, group, counts = values.unique(return_inverse=True, return_counts=True)
    shares = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, group, wrong) / counts
    return shares.repeat_interleave(counts).cumsum(0)


def risk_coverage(confidence: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """Trace the share of errors among the accepted images as fewer are rejected.

    Args:
        confidence: (N,) any numbers, higher for surer.
        correct: (N,) ones and zeros.

    Returns:
        (N,) coverages 1/N, ..., 1 and (N,) risks.
    """
    errors = selective_errors(confidence, correct)
    accepted = torch.arange(1, len(errors) + 1, dtype=torch.float64)
    return accepted / len(errors), errors / accepted


def aurc(confidence: Tensor, correct: Tensor) -> float:
    """Compute the area under the risk-coverage curve: the mean risk over all coverages.

    Args:
        confidence: (N,) any numbers, higher for surer.
        correct: (N,) ones and zeros.

    Returns:
        A number in [0, 1], lower for better.

    Reference:
        Geifman, Uziel and El-Yaniv, Bias-Reduced Uncertainty Estimation, ICLR 2019.
    """
    return float(risk_coverage(confidence, correct)[1].mean())


def augrc(confidence: Tensor, correct: Tensor) -> float:
    """Compute the area under the generalized risk: errors accepted, as a share of all images.

    Unlike AURC it does not weigh the errors of the highest confidences most. It equals
    (1 - AUROC) a (1 - a) + (1 - a)^2 / 2 for accuracy a.

    Args:
        confidence: (N,) any numbers, higher for surer.
        correct: (N,) ones and zeros.

    Returns:
        A number in [0, 1/2], lower for better.

    Reference:
        Traub et al., Overcoming Common Flaws in the Evaluation of Selective Classification
        Systems, NeurIPS 2024.
    """
    errors = selective_errors(confidence, correct)
    errors /= len(errors)
    steps = torch.cat([errors.new_zeros(1), errors])
    return float((steps[1:] + steps[:-1]).mean() / 2.0)


def risk_at_coverage(confidence: Tensor, correct: Tensor, coverage: float) -> float:
    """Return the share of errors among the most confident images.

    Args:
        confidence: (N,) any numbers, higher for surer.
        correct: (N,) ones and zeros.
        coverage: Share of images accepted, in (0, 1]; rounded up to whole images.

    Returns:
        The risk.

    Raises:
        InputError: When the coverage is outside (0, 1].
    """
    if not 0.0 < coverage <= 1.0:
        raise InputError(f"coverage {coverage} is not in (0, 1]; try 0.9")
    risks = risk_coverage(confidence, correct)[1]
    return float(risks[max(math.ceil(coverage * len(risks) - 1e-9), 1) - 1])
