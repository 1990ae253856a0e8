"""Temperature and calibration error where the answer is known."""

import math

import numpy as np
import pytest
import torch

from robustcl.calibration import (
    augrc,
    aurc,
    bootstrap,
    brier,
    calibration_error,
    check_held_out,
    classwise_calibration_error,
    debiased_calibration_error,
    fit_temperature,
    measure_calibration,
    negative_log_likelihood,
    null_floor,
    paired_mean,
    risk_at_coverage,
    risk_coverage,
    smooth_calibration_error,
    top_label,
)
from robustcl.calibration.errors import Cut
from robustcl.core.errors import InputError
from robustcl.data import Dataset


def drawn(temperature: float, count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    # Labels that truly follow softmax(scores / T).
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(count, 5, generator=generator, dtype=torch.float64) * 2 - 1
    shares = torch.softmax(scores / temperature, dim=1)
    return scores, torch.multinomial(shares, 1, generator=generator)[:, 0]


@pytest.mark.parametrize("temperature", [0.05, 0.3, 2.0])
def test_finds_the_temperature_that_made_the_labels(temperature: float) -> None:
    scores, labels = drawn(temperature)
    found = fit_temperature(scores, labels)
    assert found == pytest.approx(temperature, rel=0.06)
    cost = torch.nn.functional.cross_entropy
    best = cost(scores / found, labels)
    assert all(best <= cost(scores / (found * factor), labels) for factor in (0.9, 0.99, 1.01, 1.1))


@pytest.mark.parametrize("count", [1, 50, 3000])
def test_where_all_are_right_the_temperature_is_that_of_the_rule_of_succession(count: int) -> None:
    # Two classes, all margins m: the confidence (N + 1) / (N + 2) is reached at m / T = log(N + 1).
    margin = 0.2
    labels = torch.arange(count) % 2
    scores = 0.5 + margin * torch.nn.functional.one_hot(labels, 2).double()
    found = fit_temperature(scores, labels)
    assert found == pytest.approx(margin / np.log(count + 1.0), rel=1e-6)


def test_one_wrong_image_more_changes_the_temperature_little() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (50,), generator=generator)
    scores = torch.nn.functional.one_hot(labels, 10).double()
    scores += 0.5 * torch.rand(50, 10, generator=generator, dtype=torch.float64)
    all_right = fit_temperature(scores, labels)
    confidence = torch.softmax(scores / all_right, dim=1).amax(dim=1).mean()
    assert confidence == pytest.approx(51 / 52, abs=0.01)
    labels[0] = (labels[0] + 1) % 10
    assert 0.5 < fit_temperature(scores, labels) / all_right < 2.0


@pytest.mark.parametrize("cut", ["mass", "width"])
def test_error_is_small_when_calibrated_and_known_when_not(cut) -> None:
    scores, labels = drawn(0.3)
    right = top_label(torch.softmax(scores / 0.3, dim=1), labels)
    wrong = top_label(torch.softmax(scores / 0.03, dim=1), labels)
    assert calibration_error(*right, cut=cut) < 0.02
    assert calibration_error(*wrong, cut=cut) > 0.1
    assert debiased_calibration_error(*right) < 0.02 < 0.1 < debiased_calibration_error(*wrong)
    assert smooth_calibration_error(*right) < 0.02 < 0.1 < smooth_calibration_error(*wrong)


@pytest.mark.parametrize("cut", ["mass", "width"])
@pytest.mark.parametrize("bins", [1, 2, 15])
def test_confidence_of_exactly_one_and_zero(cut, bins: int) -> None:
    outcome = torch.tensor([1.0] * 7 + [0.0] * 3)
    for value, error in ((1.0, 0.3), (0.0, 0.7)):
        confidence = torch.full((10,), value)
        assert calibration_error(confidence, outcome, bins=bins, cut=cut) == pytest.approx(error)
        order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
        assert calibration_error(confidence, outcome[order], bins=bins, cut=cut) == pytest.approx(
            error
        )
    both = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert calibration_error(both, torch.tensor([1.0, 1.0, 0.0, 0.0]), cut=cut) == 0.0
    assert smooth_calibration_error(torch.ones(10), outcome) == pytest.approx(0.3, abs=0.01)


def random_probabilities(count: int = 500) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shares = torch.softmax(2 * torch.randn(count, 4, generator=generator), dim=1)
    return shares, torch.randint(4, (count,), generator=generator)


def test_equal_to_torchmetrics() -> None:
    metrics = pytest.importorskip("torchmetrics.classification")
    shares, labels = random_probabilities()
    other = metrics.MulticlassCalibrationError(num_classes=4, n_bins=15, norm="l1")
    ours = calibration_error(*top_label(shares, labels), bins=15, cut="width")
    assert ours == pytest.approx(float(other(shares, labels)), abs=1e-6)


def test_equal_to_netcal() -> None:
    ece = pytest.importorskip("netcal.metrics").ECE
    scaling = pytest.importorskip("netcal.scaling").TemperatureScaling
    shares, labels = random_probabilities(600)  # its quantiles cut equal counts if 15 divides n
    shares = shares.double() / shares.double().sum(dim=1, keepdim=True)
    rows, truth = shares.numpy(), labels.numpy()
    top = top_label(shares, labels)
    cuts: tuple[tuple[Cut, bool], ...] = (("width", True), ("mass", False))
    for cut, equal in cuts:
        theirs = ece(15, equal_intervals=equal).measure(rows, truth)
        assert calibration_error(*top, cut=cut) == pytest.approx(theirs, abs=1e-9)
    per_class = [ece(15).measure(rows[:, k], (truth == k).astype(int)) for k in range(4)]
    assert classwise_calibration_error(shares, labels) == pytest.approx(np.mean(per_class))
    ones, outcome = torch.ones(10, dtype=torch.float64), torch.tensor([1.0] * 7 + [0.0] * 3)
    sure = ece(15).measure(ones.numpy(), outcome.numpy().astype(int))
    assert calibration_error(ones, outcome, cut="width") == pytest.approx(sure)
    scores, answers = drawn(0.3, 2000)
    theirs = scaling()
    theirs.fit(torch.softmax(scores, dim=1).numpy(), answers.numpy())  # it multiplies by 1 / T
    assert fit_temperature(scores, answers) == pytest.approx(1 / theirs.temperature[0], rel=1e-3)


def test_equal_to_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    shares, labels = random_probabilities()
    shares = shares.double() / shares.double().sum(dim=1, keepdim=True)
    assert negative_log_likelihood(shares, labels) == pytest.approx(log_loss(labels, shares))
    score = brier(shares, labels).score
    per_class = [brier_score_loss(labels == k, shares[:, k]) for k in range(4)]
    assert score == pytest.approx(sum(per_class))
    confidence, correct = top_label(shares, labels)
    accuracy = float(correct.mean())
    area = float(roc_auc_score(correct, confidence))
    expected = (1 - area) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert augrc(confidence, correct) == pytest.approx(expected)
    errors = []
    for k in range(4):
        outcome = (labels == k).numpy()
        true, mean = calibration_curve(outcome, shares[:, k], n_bins=15)
        counts = np.histogram(shares[:, k], np.linspace(0, 1, 16))[0]
        errors.append(float((np.abs(true - mean) * counts[counts > 0]).sum()) / len(labels))
    assert classwise_calibration_error(shares, labels) == pytest.approx(np.mean(errors))


def test_equal_to_relplot() -> None:
    from relplot import smECE

    confidence, correct = top_label(*random_probabilities())
    expected = smECE(confidence.numpy(), correct.numpy())
    assert smooth_calibration_error(confidence, correct) == pytest.approx(expected)


def test_brier_decomposes_exactly_and_reads_what_it_says() -> None:
    shares, labels = random_probabilities()
    parts = brier(shares, labels)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within
    assert parts.score == pytest.approx(total)
    # One probability per class: a single bin is exact, nothing is resolved, nothing within.
    base = torch.bincount(labels, minlength=4).double() / len(labels)
    flat = brier(base.expand(len(labels), 4), labels)
    assert flat.resolution == pytest.approx(0, abs=1e-12)
    assert flat.reliability == pytest.approx(0, abs=1e-12)
    assert flat.within == pytest.approx(0, abs=1e-12)
    assert flat.score == pytest.approx(float((base * (1 - base)).sum()))


def calibrated(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    # Confidences of a network that is right on about 93 % of the images.
    generator = torch.Generator().manual_seed(seed)
    confidence = 1.0 - 0.5 * torch.rand(count, generator=generator, dtype=torch.float64) ** 6
    return confidence, torch.bernoulli(confidence, generator=generator)


def test_a_calibrated_model_lands_on_its_null_floor() -> None:
    def ece15(confidence: torch.Tensor, correct: torch.Tensor) -> float:
        return calibration_error(confidence, correct, cut="width")

    found, floors, limits, plain = [], [], 0, []
    for seed in range(40):
        confidence, correct = calibrated(1000, seed)
        floor, high = null_floor(ece15, confidence, draws=40, seed=1000 + seed)
        found.append(ece15(confidence, correct))
        floors.append(floor)
        limits += found[-1] <= high
        plain.append(debiased_calibration_error(confidence, correct))
    assert np.mean(found) == pytest.approx(np.mean(floors), rel=0.1)
    assert 0.008 < np.mean(floors) < 0.03
    assert limits >= 34  # 95 % of 40, less two standard deviations
    biased = [calibration_error(*calibrated(1000, seed)) for seed in range(40)]
    assert np.mean(plain) < 0.75 * np.mean(biased)


def test_the_debiased_square_is_unbiased() -> None:
    # Two confidences, both 0.1 too high: the mean of the estimates is the true root mean square.
    generator = torch.Generator().manual_seed(0)
    confidence = torch.tensor([0.6, 0.9]).repeat_interleave(60).double()
    squares = []
    for _ in range(400):
        correct = torch.bernoulli(confidence - 0.1, generator=generator)
        squares.append(debiased_calibration_error(confidence, correct, bins=2) ** 2)
    assert np.mean(squares) == pytest.approx(0.01, rel=0.12)


@pytest.mark.parametrize("right", [0.2, 0.7])
@pytest.mark.parametrize("count", [2, 3, 6])
def test_the_debiased_square_is_unbiased_by_counting_all_outcomes(count: int, right: float) -> None:
    # One bin of confidence 1, where no square is negative: over all outcomes of `count` images,
    # each right with probability `right`, the mean square is the squared gap itself.
    mean = 0.0
    for k in range(count + 1):
        outcome = torch.tensor([1.0] * k + [0.0] * (count - k))
        found = debiased_calibration_error(torch.ones(count), outcome, bins=1)
        mean += math.comb(count, k) * right**k * (1 - right) ** (count - k) * found**2
    assert mean == pytest.approx((1 - right) ** 2, rel=1e-9)


def test_every_image_is_in_a_bin_of_two_or_more() -> None:
    # Gaps 0.5 and 0.2 of two images each: (0.25 - 0.25 + 0.04 - 0) / 2, however many bins are asked
    # for: a bin of one image has no variance.
    confidence = torch.tensor([0.0, 0.0, 0.8, 0.8])
    correct = torch.tensor([1.0, 0.0, 1.0, 1.0])
    for bins in (2, 3, 4, 15):
        found = debiased_calibration_error(confidence, correct, bins=bins)
        assert found == pytest.approx(0.02**0.5, rel=1e-6)


def test_selective_risk_in_closed_form() -> None:
    confidence = torch.tensor([0.9, 0.8, 0.7, 0.6])
    correct = torch.tensor([1.0, 0.0, 1.0, 0.0])
    coverage, risk = risk_coverage(confidence, correct)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0.0, 0.5, 1 / 3, 0.5])
    assert aurc(confidence, correct) == pytest.approx((0.5 + 1 / 3 + 0.5) / 4)
    assert augrc(confidence, correct) == pytest.approx((0 + 0.25 + 0.25 + 0.25) / 4)
    assert risk_at_coverage(confidence, correct, 0.5) == 0.5
    assert risk_at_coverage(confidence, correct, 0.51) == pytest.approx(1 / 3)
    tied = risk_coverage(torch.zeros(4), correct)[1]
    assert tied.tolist() == pytest.approx([0.5] * 4)  # whatever the order of the images
    assert risk_at_coverage(torch.arange(1000.0), torch.zeros(1000), 0.95) == 1.0


def test_intervals_cover_and_pairing_helps() -> None:
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for seed in range(100):
        sample = torch.randn(200, generator=generator) + 1.0
        found = bootstrap(lambda rows, s=sample: float(s[rows].mean()), 200, draws=200, seed=seed)
        hits += found.low <= 1.0 <= found.high
    assert 88 <= hits <= 99
    common = 10 * torch.randn(200, generator=generator)
    gain = 0.5 + 0.1 * torch.randn(200, generator=generator)
    paired = paired_mean([(common + gain) - common])
    assert paired.verdict == 1 and paired.high - paired.low < 0.1
    assert paired_mean([-gain]).verdict == -1
    assert paired_mean([gain - gain.mean()]).verdict == 0


def dataset(images: np.ndarray, labels: list[int]) -> Dataset:
    return Dataset("made", images, np.array(labels), ("a", "b", "c"))


def test_held_out_images_that_are_tested_or_lack_a_class_are_refused() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 2, 2, 1), dtype=np.uint8)
    held, test = dataset(pixels[:4], [0, 1, 2, 2]), dataset(pixels[4:], [0, 0, 0, 0])
    check_held_out(held, test, num_classes=3)
    mixed = np.concatenate([pixels[4:], pixels[2:3]])
    with pytest.raises(InputError, match=r"1 of 4.*\(image 2 .*image 4"):
        check_held_out(held, dataset(mixed, [0] * 5), num_classes=3)
    floats = dataset(pixels[2:3].astype(np.float32) / 255, [0])  # the same image in another type
    with pytest.raises(InputError, match="as well"):
        check_held_out(held, floats, num_classes=3)
    with pytest.raises(InputError, match=r"class 1 \(b\) has no image"):
        check_held_out(dataset(pixels[:4], [0, 0, 2, 2]), test, num_classes=3)


def test_everything_at_once() -> None:
    shares, labels = random_probabilities()
    found = measure_calibration(shares, labels, floor_draws=5)
    assert all(np.isfinite(value) for value in found.values())
    assert found["ece15_floor"] <= found["ece15_floor95"]
    parts = [found[f"brier_{name}"] for name in ("reliability", "uncertainty", "within")]
    assert found["brier"] == pytest.approx(sum(parts) - found["brier_resolution"])
