"""Metrics against torchmetrics, netcal and scikit-learn, from 1 to 100,000 images."""

import math
import warnings
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from robustcl.calibration import (
    augrc,
    aurc,
    brier,
    calibration_error,
    classwise_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    risk_at_coverage,
    risk_coverage,
    smooth_calibration_error,
)

COUNTS = (1, 2, 3, 10, 29, 30, 31, 100, 1000, 10_000, 100_000)
BINS = (1, 2, 3, 7, 10, 15, 64, 100, 199, 200)


def drawn(count: int) -> tuple[Tensor, Tensor]:
    # Overconfident, without a confidence on an edge.
    generator = torch.Generator().manual_seed(count)
    confidence = torch.rand(count, generator=generator, dtype=torch.float64)
    return confidence, torch.bernoulli(confidence**2, generator=generator).long()


def rows(count: int, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    scores = 2 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    return torch.softmax(scores, dim=1), torch.randint(classes, (count,), generator=generator)


@pytest.mark.parametrize("count", COUNTS)
def test_equal_width_is_that_of_torchmetrics(count: int) -> None:
    functional = pytest.importorskip("torchmetrics.functional.classification")
    confidence, correct = drawn(count)
    for bins in range(1, 201) if count == 1000 else BINS:
        theirs = functional.binary_calibration_error(confidence, correct, n_bins=bins, norm="l1")
        ours = calibration_error(confidence, correct, bins=bins, cut="width")
        assert ours == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize("count", COUNTS)
def test_both_cuts_are_those_of_netcal(count: int) -> None:
    ece = pytest.importorskip("netcal.metrics", reason="netcal is an optional extra").ECE
    confidence, correct = drawn(count)
    values, truth = confidence.numpy(), correct.numpy()
    for bins in BINS:
        theirs = ece(bins).measure(values, truth)
        ours = calibration_error(confidence, correct, bins=bins, cut="width")
        assert ours == pytest.approx(theirs, abs=1e-9)
        if count % bins or count < 2 * bins:
            continue  # its quantiles cut equal counts only there
        theirs = ece(bins, equal_intervals=False).measure(values, truth)
        assert calibration_error(confidence, correct, bins=bins) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("count", COUNTS)
def test_equal_width_is_that_of_scikit_learns_curve(count: int) -> None:
    from sklearn.calibration import calibration_curve

    confidence, correct = drawn(count)
    values = confidence.numpy()
    for bins in BINS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a single class
            share, mean = calibration_curve(correct.numpy(), values, n_bins=bins, pos_label=1)
        sizes = np.histogram(values, np.linspace(0, 1, bins + 1))[0]
        theirs = float((np.abs(share - mean) * sizes[sizes > 0]).sum()) / count
        ours = calibration_error(confidence, correct, bins=bins, cut="width")
        assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("count", COUNTS)
def test_proper_scores_are_those_of_scikit_learn(count: int) -> None:
    from sklearn.metrics import log_loss

    shares, labels = rows(count)
    theirs = log_loss(labels, shares, labels=range(4))
    assert negative_log_likelihood(shares, labels) == pytest.approx(theirs)
    truth = torch.nn.functional.one_hot(labels, 4)
    for bins in (1, 15, 200):
        parts = brier(shares, labels, bins=bins)
        assert parts.score == pytest.approx(float(((shares - truth) ** 2).sum(dim=1).mean()))
        total = parts.reliability - parts.resolution + parts.uncertainty + parts.within
        assert parts.score == pytest.approx(total)


@pytest.mark.parametrize("count", [2, 10, 1000, 100_000])
@pytest.mark.parametrize("tied", [False, True])
def test_generalized_risk_is_that_of_scikit_learns_auroc(count: int, tied: bool) -> None:
    from sklearn.metrics import roc_auc_score

    confidence, correct = drawn(count)
    correct[:2] = torch.tensor([0, 1])
    confidence = (confidence * 8).round() / 8 if tied else confidence
    a = float(correct.double().mean())
    area = float(roc_auc_score(correct, confidence))
    wanted = (1 - area) * a * (1 - a) + (1 - a) ** 2 / 2
    assert augrc(confidence, correct) == pytest.approx(wanted)


def test_selective_risk_is_the_mean_over_all_orders_of_ties() -> None:
    confidence = torch.tensor([0.5, 0.5, 0.5, 0.9, 0.9])
    correct = torch.tensor([1, 0, 0, 1, 0])
    risks = []
    for order in permutations(range(5)):
        if [float(confidence[k]) for k in order] == sorted(confidence.tolist(), reverse=True):
            errors = np.cumsum([1 - int(correct[k]) for k in order])
            risks.append(errors / np.arange(1, 6))
    mean = np.mean(risks, axis=0)
    assert risk_coverage(confidence, correct)[1].tolist() == pytest.approx(mean.tolist())
    assert aurc(confidence, correct) == pytest.approx(mean.mean())
    for k in range(1, 6):
        assert risk_at_coverage(confidence, correct, k / 5) == pytest.approx(mean[k - 1])


@pytest.mark.parametrize("count", [1, 10, 1000, 20_000])
def test_classwise_is_that_of_torchmetrics_class_by_class(count: int) -> None:
    functional = pytest.importorskip("torchmetrics.functional.classification")
    shares, labels = rows(count)
    for bins in (1, 15, 200):
        theirs = [
            float(functional.binary_calibration_error(shares[:, k], (labels == k).long(), bins))
            for k in range(4)
        ]
        ours = classwise_calibration_error(shares, labels, bins=bins)
        assert ours == pytest.approx(float(np.mean(theirs)), abs=1e-6)


@pytest.mark.parametrize("count", [1, 10, 1000, 100_000])
def test_smooth_error_of_one_confidence_is_its_gap(count: int) -> None:
    # A kernel of width s loses a share of about s of the gap.
    for value, answer in ((1.0, 0), (0.75, 1), (0.5, 0)):
        found = smooth_calibration_error(
            torch.full((count,), value), torch.full((count,), float(answer))
        )
        assert found == pytest.approx(abs(value - answer), abs=0.01)


@pytest.mark.parametrize("factor", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_temperature_is_in_the_unit_of_the_scores(factor: float) -> None:
    shares, labels = rows(2000)
    scores = shares.log()
    wanted = fit_temperature(scores, labels)
    assert fit_temperature(scores * factor, labels) == pytest.approx(wanted * factor, rel=1e-6)


@pytest.mark.parametrize("right", [0.6, 0.75, 0.99])
def test_temperature_of_two_classes_in_closed_form(right: float) -> None:
    # All margins are 1 and a share p is right: sigmoid(1 / T) = p.
    count = 1000
    scores = torch.tensor([[1.0, 0.0]]).expand(count, 2)
    labels = (torch.arange(count) >= round(right * count)).to(torch.int32)
    wanted = 1.0 / math.log(right / (1 - right))
    assert fit_temperature(scores, labels) == pytest.approx(wanted, rel=1e-6)
