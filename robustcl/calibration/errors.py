"""Calibration errors: binned, debiased, per class, smooth, and what chance alone gives."""

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor

from robustcl.calibration.checks import (
    check_confidence,
    check_count,
    check_probabilities,
    check_unit,
)
from robustcl.core.errors import InputError


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


Cut = Literal["mass", "width"]
MOST_BINS = 1_000_000


def calibration_error(
    confidence: Tensor, correct: Tensor, *, bins: int = 15, cut: Cut = "mass"
) -> float:
    """Compute the expected calibration error: the mean over images of their bin's gap.

    The gap of a bin is |share that is right - mean confidence|. It is never negative, so sampling
    noise alone makes it positive: see `null_floor`.

    Args:
        confidence: (N,) in [0, 1].
        correct: (N,) ones where the prediction is right, else zeros.
        bins: Bins at most.
        cut: 'mass' for bins of (nearly) equal count, 'width' for (0, 1/bins], (1/bins, 2/bins], ...
            where 0 falls into the first and 1 into the last. The number next to k/bins in the type
            of the confidences is that edge.

    Returns:
        A number in [0, 1].

    Reference:
        Nguyen and O'Connor, EMNLP 2015 (equal count); Guo et al., On Calibration of Modern Neural
        Networks, ICML 2017, equation 3 (equal width; ECE-15 with 15 bins).
    """
    values, outcomes = check_confidence(confidence, correct)
    total = 0.0
    for rows, share in binned(values, outcomes, bins=bins, cut=cut):
        gap = share.mean() - values[rows].double().mean()
        total += float(gap.abs()) * len(rows)
    return total / len(values)


def debiased_calibration_error(confidence: Tensor, correct: Tensor, *, bins: int = 15) -> float:
    """Estimate the root mean squared gap over bins of equal count, without the bias of noise.

    From each squared gap its sampling variance, share (1 - share) / (n - 1), is subtracted; a
    negative mean counts as 0. Every image is in a bin of two or more, without which there is no
    variance to subtract, and images of the same confidence are in the same bin.

    Args:
        confidence: (N,) in [0, 1], N >= 2.
        correct: (N,) ones where the prediction is right, else zeros.
        bins: Bins at most.

    Returns:
        A number in [0, 1].

    Raises:
        InputError: When there is a single image.

    Reference:
        Kumar, Liang and Ma, Verified Uncertainty Calibration, NeurIPS 2019, section 5.
    """
    values, outcomes = check_confidence(confidence, correct)
    check_count("bins", bins)
    if len(values) < 2:
        raise InputError("1 image has no sampling variance; give 2 or more")
    total = 0.0
    for rows in untied_bins(values, bins=bins, least=2):
        mean = outcomes[rows].mean()
        gap = mean - values[rows].double().mean()
        total += float(gap**2 - mean * (1.0 - mean) / (len(rows) - 1)) * len(rows)
    return max(total / len(values), 0.0) ** 0.5


def binned(
    confidence: Tensor, correct: Tensor, *, bins: int, cut: Cut
) -> Sequence[tuple[Tensor, Tensor]]:
    """Sort images into bins by their confidence.

    Images of the same confidence count, each, as right to the share of them that is right, so that
    the order of the images plays no role where a cut falls among them.

    Args:
        confidence: (N,) in [0, 1], checked.
        correct: (N,) float64 ones and zeros, checked.
        bins: Bins at most.
        cut: 'mass' or 'width'.

    Returns:
        Per bin that is not empty, the rows and their outcomes, in ascending order of confidence.

    Raises:
        InputError: When there is no bin, or the cut is unknown.
    """
    check_count("bins", bins)
    if cut not in ("mass", "width"):
        raise InputError(f"unknown cut {cut!r}; use mass or width")
    if cut == "width":
        number = bin_numbers(confidence, bins)
        order = number.argsort(stable=True)
        sizes = number.unique(return_counts=True)[1].tolist()
        return [(rows, correct[rows]) for rows in order.split(sizes)]
    _, group, counts = confidence.unique(return_inverse=True, return_counts=True)
    shared = torch.zeros_like(counts, dtype=torch.float64).index_add_(0, group, correct) / counts
    order = confidence.argsort(stable=True)
    return [(rows, shared[group[rows]]) for rows in order.tensor_split(min(bins, len(order)))]


def bin_numbers(confidence: Tensor, bins: int) -> Tensor:
    """Say which bin of equal width each confidence is in.

    Nothing is computed with a confidence: it is compared with the edges, each of which is k/bins
    rounded once to its type. So membership is that of exact arithmetic, but that the number next to
    k/bins is taken for k/bins itself.

    Args:
        confidence: (N,) floating point, in [0, 1].
        bins: Their number.

    Returns:
        (N,) int64: k for (k/bins, (k + 1)/bins], with 0 in the first.

    Raises:
        InputError: When there are more bins than their edges should take memory for.
    """
    if bins > MOST_BINS:
        raise InputError(f"{bins} bins of equal width; use at most {MOST_BINS}, or cut by mass")
    # Rounding to float64 first changes nothing: 53 bits are twice those of float32 and 2 more.
    inner = (torch.arange(1, bins, dtype=torch.float64) / bins).to(confidence.dtype)
    return torch.bucketize(confidence.contiguous(), inner)


def untied_bins(confidence: Tensor, *, bins: int, least: int = 1) -> Sequence[Tensor]:
    """Cut images into bins of nearly equal count without parting images of the same confidence.

    Args:
        confidence: (N,) checked.
        bins: Bins at most.
        least: Images in each bin at least, <= N.

    Returns:
        The rows of each bin, in ascending order of confidence.
    """
    count, order = len(confidence), confidence.argsort(stable=True)
    sizes = confidence.unique(return_counts=True)[1]
    ends = sizes.cumsum(0)  # where a cut may be
    share = min(bins, max(count // least, 1))
    number = torch.arange(1, share, dtype=torch.int64)
    wanted = number * (count // share) + number.clamp(max=count % share)  # as `tensor_split`
    after = torch.searchsorted(ends, wanted).clamp(max=len(ends) - 1)
    before = (after - 1).clamp(min=0)
    nearer = (wanted - ends[before] <= ends[after] - wanted) & (ends[before] <= wanted)
    cuts = torch.where(nearer, ends[before], ends[after]).unique().tolist()
    kept = [0]
    for cut in cuts:
        if cut - kept[-1] >= least and count - cut >= least:
            kept.append(cut)
    return order.tensor_split(kept[1:])


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
