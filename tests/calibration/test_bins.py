"""Which bin a confidence is in, against exact rational arithmetic."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch

from robustcl.calibration import (
    calibration_error,
    debiased_calibration_error,
    null_floor,
    top_label,
)
from robustcl.calibration.errors import bin_numbers, untied_bins

KINDS = (torch.float64, torch.float32, torch.float16)


def exact_bin(value: Fraction, bins: int) -> int:
    # k for (k/bins, (k + 1)/bins], with 0 in the first.
    return max(math.ceil(value * bins) - 1, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_k_in_b_is_the_edge_of_its_bin(kind: torch.dtype) -> None:
    # The number next to k/B stands for k/B, the upper end of bin k - 1.
    for bins in range(1, 201):
        edges = (torch.arange(bins + 1, dtype=torch.float64) / bins).to(kind)
        wanted = [exact_bin(Fraction(k, bins), bins) for k in range(bins + 1)]
        assert bin_numbers(edges, bins).tolist() == wanted


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_neighbors_of_every_edge_are_where_exact_arithmetic_puts_them(kind: type) -> None:
    for bins in (*range(1, 40), 49, 99, 100, 128, 197, 199, 200):
        edges = (np.arange(bins + 1) / bins).astype(kind)
        below, above = np.nextafter(edges[1:], kind(0)), np.nextafter(edges[:-1], kind(1))
        points = np.concatenate([below, above])
        wanted = [exact_bin(Fraction(float(c)), bins) for c in points]
        assert bin_numbers(torch.from_numpy(points), bins).tolist() == wanted


def test_shares_of_votes_keep_their_type_and_so_their_bin() -> None:
    # 3 of 10 votes in float32 lie above 3/10 in float64, but are 3/10.
    shares = torch.tensor([[0.3, 0.2, 0.2, 0.2, 0.1]])
    confidence, _ = top_label(shares, torch.tensor([0]))
    assert confidence.dtype == torch.float32
    assert bin_numbers(confidence, 10).tolist() == [2]
    assert bin_numbers(confidence.double(), 10).tolist() == [3]


@pytest.mark.parametrize("bins", [1, 2, 3, 10, 15, 100, 200])
def test_error_over_bins_of_equal_width_is_that_of_exact_arithmetic(bins: int) -> None:
    generator = np.random.default_rng(bins)
    for count in (1, 2, 7, 60):
        votes = generator.integers(0, bins + 1, count)
        answers = generator.integers(0, 2, count)
        gaps: dict[int, Fraction] = {}
        for vote, answer in zip(votes.tolist(), answers.tolist(), strict=True):
            number = exact_bin(Fraction(vote, bins), bins)
            gaps[number] = gaps.get(number, Fraction(0)) + answer - Fraction(vote, bins)
        wanted = sum(abs(gap) for gap in gaps.values()) / count
        found = calibration_error(
            torch.from_numpy(votes / bins), torch.from_numpy(answers), bins=bins, cut="width"
        )
        assert found == pytest.approx(float(wanted), abs=1e-12)


@pytest.mark.parametrize("bins", [1, 2, 3, 15, 200])
def test_error_over_bins_of_equal_count_is_that_of_exact_arithmetic(bins: int) -> None:
    # Ties that a cut parts count as right to their mean share.
    generator = np.random.default_rng(bins)
    for count in (1, 2, 7, 61):
        shares = [Fraction(int(k), 8) for k in generator.integers(0, 9, count)]
        answers = [int(a) for a in generator.integers(0, 2, count)]
        mean = {
            c: Fraction(sum(a for a, d in zip(answers, shares, strict=True) if d == c))
            / shares.count(c)
            for c in set(shares)
        }
        rows, total = sorted(shares), Fraction(0)
        for part in np.array_split(np.arange(count), min(bins, count)):
            total += abs(sum((mean[rows[k]] - rows[k] for k in part), Fraction(0)))
        found = calibration_error(
            torch.tensor([float(c) for c in shares]), torch.tensor(answers), bins=bins
        )
        assert found == pytest.approx(float(total / count), abs=1e-12)


@pytest.mark.parametrize("count", [2, 3, 10, 14, 15, 16, 29, 30, 31, 1000])
@pytest.mark.parametrize("spread", [0.0, 1e-9])
def test_wrong_answers_at_confidence_one_have_a_debiased_error_of_one(
    count: int, spread: float
) -> None:
    confidence = 1.0 - spread * torch.arange(count, dtype=torch.float64) / count
    for bins in (1, 2, 15, 200):
        found = debiased_calibration_error(confidence, torch.zeros(count), bins=bins)
        assert found == pytest.approx(1.0, abs=1e-8)
        assert debiased_calibration_error(confidence, torch.ones(count), bins=bins) < 1e-8


def test_images_of_one_confidence_are_not_parted_by_the_debiased_error() -> None:
    # 60 images at confidence 1, half of them right: the squared gap is 1/4, and its variance is
    # that of all 60, not of the 4 in a bin.
    for order in (torch.arange(60) % 2, torch.arange(60) // 30):
        found = debiased_calibration_error(torch.ones(60), order, bins=15)
        assert found**2 == pytest.approx(0.25 - 0.25 / 59)


@pytest.mark.parametrize("bins", [1, 4, 15, 200])
@pytest.mark.parametrize("least", [1, 2, 5])
def test_untied_bins_hold_every_image_once(bins: int, least: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for count in (5, 6, 11, 60, 500):
        for values in (2, 9, 10**6):
            confidence = torch.randint(values, (count,), generator=generator).double() / values
            parts = untied_bins(confidence, bins=bins, least=least)
            assert sorted(torch.cat(list(parts)).tolist()) == list(range(count))
            assert len(parts) <= bins and min(map(len, parts)) >= least
            ends = [(float(confidence[p].min()), float(confidence[p].max())) for p in parts]
            assert all(a[1] < b[0] for a, b in pairwise(ends))
            if values == 10**6 and len(confidence.unique()) == count:
                sizes = [len(part) for part in parts]
                assert len(parts) == min(bins, count // least) and max(sizes) - min(sizes) <= 1


def test_the_debiased_square_is_unbiased_for_few_images() -> None:
    # Ten images, fifteen bins: confidences 0.1 too high, so the mean square is 0.01.
    generator = torch.Generator().manual_seed(0)
    confidence = torch.linspace(0.3, 0.9, 5, dtype=torch.float64).repeat_interleave(2)
    share = confidence - 0.1
    total, draws = 0.0, 4000
    for _ in range(draws):
        correct = torch.bernoulli(share, generator=generator)
        gaps = [
            float((correct[r].mean() - confidence[r].mean()) ** 2)
            - float(correct[r].mean() * (1 - correct[r].mean()))
            for r in untied_bins(confidence, bins=15, least=2)
        ]
        square = debiased_calibration_error(confidence, correct, bins=15) ** 2
        assert square == pytest.approx(max(sum(gaps) / len(gaps), 0.0))
        total += sum(gaps) / len(gaps)
    assert total / draws == pytest.approx(0.01, abs=0.006)


def test_the_null_floor_measures_confidences_in_their_own_type() -> None:
    seen = []

    def metric(confidence: torch.Tensor, correct: torch.Tensor) -> float:
        seen.append((confidence.dtype, correct.dtype))
        return 0.0

    null_floor(metric, torch.tensor([0.3, 0.4]), draws=1)
    assert seen == [(torch.float32, torch.float64)]
