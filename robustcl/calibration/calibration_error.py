"""Measure how far confidence is from accuracy, over bins."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from robustcl.calibration.top_label import check_confidence
from robustcl.errors import InputError

Cut = Literal["mass", "width"]


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
            where 0 falls into the first and 1 into the last.

    Returns:
        A number in [0, 1].

    Reference:
        Nguyen and O'Connor, EMNLP 2015 (equal count); Guo et al., On Calibration of Modern Neural
        Networks, ICML 2017, equation 3 (equal width; ECE-15 with 15 bins).
    """
    total = 0.0
    for rows, share in binned(confidence, correct, bins=bins, cut=cut):
        gap = share.mean() - confidence.double()[rows].mean()
        total += float(gap.abs()) * len(rows)
    return total / len(confidence)


def debiased_calibration_error(confidence: Tensor, correct: Tensor, *, bins: int = 15) -> float:
    """Estimate the root mean squared gap over bins of equal count, without the bias of noise.

    From each squared gap its sampling variance, share (1 - share) / (n - 1), is subtracted; a
    negative mean counts as 0.

    Args:
        confidence: (N,) in [0, 1].
        correct: (N,) ones and zeros.
        bins: Bins at most; those of a single image are left out, as they have no variance.

    Returns:
        A number in [0, 1].

    Reference:
        Kumar, Liang and Ma, Verified Uncertainty Calibration, NeurIPS 2019, section 5.
    """
    total = 0.0
    for rows, share in binned(confidence, correct, bins=bins, cut="mass"):
        if len(rows) < 2:
            continue
        mean = share.mean()
        gap = mean - confidence.double()[rows].mean()
        total += float(gap**2 - mean * (1.0 - mean) / (len(rows) - 1)) * len(rows)
    return max(total / len(confidence), 0.0) ** 0.5


def binned(
    confidence: Tensor, correct: Tensor, *, bins: int, cut: Cut
) -> Sequence[tuple[Tensor, Tensor]]:
    """Sort images into bins by their confidence.

    Images of the same confidence count, each, as right to the share of them that is right, so that
    the order of the images plays no role where a cut falls among them.

    Args:
        confidence: (N,) in [0, 1].
        correct: (N,) ones and zeros.
        bins: Bins at most.
        cut: 'mass' or 'width'.

    Returns:
        Per bin that is not empty, the rows and their outcomes, in ascending order of confidence.

    Raises:
        InputError: When there is no bin, or the cut is unknown.
    """
    check_confidence(confidence, correct)
    if bins < 1:
        raise InputError(f"bins {bins} is below 1")
    if cut not in ("mass", "width"):
        raise InputError(f"unknown cut {cut!r}; use mass or width")
    values, right = confidence.double(), correct.double()
    if cut == "width":
        number = (torch.ceil(values * bins) - 1.0).clamp(0, bins - 1)
        parts = [torch.nonzero(number == k)[:, 0] for k in range(bins)]
        return [(rows, right[rows]) for rows in parts if len(rows)]
    _, group, counts = values.unique(return_inverse=True, return_counts=True)
    shared = torch.zeros_like(counts, dtype=torch.float64).index_add_(0, group, right) / counts
    order = values.argsort(stable=True)
    return [(rows, shared[group[rows]]) for rows in order.tensor_split(min(bins, len(order)))]
