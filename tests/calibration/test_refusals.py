"""What is no probability, confidence, outcome or label is refused in one line."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

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
    measure_confidence,
    negative_log_likelihood,
    null_floor,
    paired_mean,
    risk_at_coverage,
    risk_coverage,
    smooth_calibration_error,
    top_label,
)
from robustcl.core.errors import InputError
from robustcl.data import Dataset

Metric = Callable[..., Any]
CONFIDENCE: list[Metric] = [
    calibration_error,
    lambda c, o: calibration_error(c, o, cut="width"),
    debiased_calibration_error,
    smooth_calibration_error,
    measure_confidence,
]
RANKED: list[Metric] = [
    *CONFIDENCE, aurc, augrc, risk_coverage, lambda c, o: risk_at_coverage(c, o, 0.5)
]  # fmt: skip
SHARES: list[Metric] = [
    top_label, negative_log_likelihood, brier, classwise_calibration_error, measure_calibration
]  # fmt: skip
LABELED: list[Metric] = [*SHARES, fit_temperature]


def refused(metric: Metric, *values: Any, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        metric(*values)
    assert "\n" not in str(caught.value)


def shares(count: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.softmax(torch.randn(count, 3, generator=generator), dim=1)


def plain(found: Any) -> Any:
    return [part.double().tolist() for part in found] if isinstance(found, tuple) else found


@pytest.mark.parametrize("metric", RANKED)
@pytest.mark.parametrize("wrong", [2.0, -1.0, 0.5, math.nan, math.inf])
def test_outcomes_that_are_not_0_or_1(metric: Metric, wrong: float) -> None:
    outcomes = torch.tensor([1.0, 0.0, wrong, 1.0])
    refused(metric, torch.rand(4), outcomes, match=f"outcome {wrong:g} of image 2 is not 0")


@pytest.mark.parametrize("metric", CONFIDENCE)
@pytest.mark.parametrize("wrong", [1.0000001, -1e-9, 80.0, math.inf, -math.inf])
def test_confidence_outside_of_0_to_1(metric: Metric, wrong: float) -> None:
    values = torch.tensor([0.5, wrong, 0.5], dtype=torch.float64)
    refused(metric, values, torch.ones(3), match=r"of image 1 is not in \[0, 1\]")
    refused(null_floor, calibration_error, values, match=r"of image 1 is not in \[0, 1\]")


@pytest.mark.parametrize("metric", RANKED)
def test_confidence_that_is_nan_or_of_another_shape(metric: Metric) -> None:
    refused(metric, torch.tensor([0.5, math.nan]), torch.ones(2), match="nan of image 1")
    for size, other in (
        ((3,), (2,)),
        ((0,), (0,)),
        ((2, 1), (2, 1)),
        ((), ()),
        ((2,), (2, 1)),
    ):
        refused(metric, torch.rand(size), torch.ones(other), match="N >= 1")
    refused(metric, [0.5], torch.ones(1), match="a list; give a tensor")
    refused(metric, torch.rand(2), np.ones(2), match="a ndarray; give a tensor")
    refused(metric, torch.rand(2).to(torch.complex64), torch.ones(2), match="real numbers")
    refused(metric, torch.rand(2).to_sparse(), torch.ones(2), match="dense")
    refused(metric, torch.rand(2, device="meta"), torch.ones(2), match="meta")


@pytest.mark.parametrize("metric", RANKED)
@pytest.mark.parametrize("kind", [torch.bool, torch.int32, torch.uint8, torch.float16])
def test_outcomes_of_any_type_count_alike(metric: Metric, kind: torch.dtype) -> None:
    values, outcomes = torch.rand(9, requires_grad=True), torch.arange(9) % 2
    assert plain(metric(values, outcomes.to(kind))) == plain(metric(values, outcomes.double()))


@pytest.mark.parametrize("metric", LABELED)
@pytest.mark.parametrize(
    "kind", [torch.int8, torch.int16, torch.int32, torch.uint8, torch.float32, torch.float64]
)
def test_labels_of_any_type_count_alike(metric: Metric, kind: torch.dtype) -> None:
    labels = torch.arange(6) % 3
    assert plain(metric(shares(), labels.to(kind))) == plain(metric(shares(), labels))


@pytest.mark.parametrize("metric", LABELED)
@pytest.mark.parametrize("wrong", [3, -1, 2**40, 0.5, math.nan, math.inf, 1e300])
def test_labels_that_are_no_class(metric: Metric, wrong: float) -> None:
    labels = torch.tensor([0, 1, 2, wrong, 1, 0])
    refused(metric, shares(), labels, match="of image 3 is not a class from 0 to K - 1 = 2")


@pytest.mark.parametrize("metric", LABELED)
def test_labels_of_another_shape(metric: Metric) -> None:
    for count, wanted in (((5,), 6), ((6, 1), 6), ((0,), 0), ((), 6)):
        refused(metric, shares(wanted), torch.zeros(count), match="N >= 1")
    refused(metric, torch.rand(6), torch.zeros(6), match="N >= 1")
    refused(metric, torch.zeros(6, 0), torch.zeros(6), match="N >= 1")
    refused(metric, shares(), torch.ones(6, dtype=torch.bool), match="torch.bool")
    refused(metric, shares(), [0] * 6, match="a list; give a tensor")


@pytest.mark.parametrize("metric", SHARES)
def test_rows_that_are_no_probabilities(metric: Metric) -> None:
    for row in ([0.5, 0.6, 0.1], [1.5, -0.5, 0.0], [math.nan, 0.5, 0.5], [math.inf, 0.0, 0.0]):
        values = shares()
        values[4] = torch.tensor(row)
        refused(metric, values, torch.zeros(6), match="row 4 of the probabilities .* softmax")


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 0]])
def test_a_score_that_is_not_finite_has_no_temperature(wrong: float, labels: list[int]) -> None:
    scores = torch.eye(3)
    scores[1, 2] = wrong
    match = "scores of image 1 are not finite, as those of 1 of 3"
    refused(fit_temperature, scores, torch.tensor(labels), match=match)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "15", None])
def test_bins_and_draws_that_are_no_count(wrong: Any) -> None:
    values, outcomes, labels = torch.rand(4), torch.ones(4), torch.zeros(6)
    refused(lambda: calibration_error(values, outcomes, bins=wrong), match=f"{wrong!r}")
    refused(lambda: calibration_error(values, outcomes, bins=wrong, cut="width"), match="bins")
    refused(lambda: debiased_calibration_error(values, outcomes, bins=wrong), match="bins")
    refused(lambda: brier(shares(), labels, bins=wrong), match="bins")
    refused(lambda: classwise_calibration_error(shares(), labels, bins=wrong), match="bins")
    refused(lambda: null_floor(calibration_error, values, draws=wrong), match="draws")
    refused(lambda: bootstrap(lambda rows: 0.0, 4, draws=wrong), match="draws")
    refused(lambda: bootstrap(lambda rows: 0.0, wrong), match="images")


def test_more_bins_than_images_are_fine_and_more_than_memory_are_not() -> None:
    values = torch.tensor([0.25, 0.5])
    assert calibration_error(values, torch.ones(2), bins=10**6, cut="width") == 0.625
    assert calibration_error(values, torch.ones(2), bins=10**12) == 0.625
    refused(
        lambda: calibration_error(values, torch.ones(2), bins=10**12, cut="width"), match="at most"
    )


def test_one_image_has_no_debiased_error() -> None:
    refused(debiased_calibration_error, torch.ones(1), torch.ones(1), match="2 or more")
    found = measure_confidence(torch.ones(1), torch.ones(1), floor_draws=2)
    assert math.isnan(found["debiased"]) and found["ece15"] == 0.0


def test_coverage_and_cut() -> None:
    for wrong in (0.0, -1.0, 1.1, math.nan):
        refused(risk_at_coverage, torch.ones(2), torch.ones(2), wrong, match=r"not in \(0, 1\]")
    assert risk_at_coverage(torch.tensor([0.9, 0.1]), torch.tensor([0, 1]), 1e-12) == 1.0
    refused(
        lambda: calibration_error(torch.ones(1), torch.ones(1), cut="width "),  # pyright: ignore
        match="use mass or width",
    )


def test_intervals_of_what_is_not_finite() -> None:
    refused(lambda: bootstrap(lambda rows: math.nan, 3), match="is nan")
    refused(paired_mean, [torch.tensor([0.0, math.nan])], match="nan of image 1 is not finite")
    refused(paired_mean, [torch.ones(2), torch.ones(3)], match=r"\[2, 3\] images")
    refused(paired_mean, [], match="no images")
    refused(paired_mean, [torch.ones(2, 2)], match="give")
    assert paired_mean([torch.ones(4, dtype=torch.int32)]).value == 1.0


def test_held_out_images_without_labels_or_with_unknown_ones() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 1), dtype=np.uint8)
    held, test = (
        Dataset("held", pixels[:2], np.array([0, 1])),
        Dataset("test", pixels[2:], np.zeros(2, int)),
    )
    check_held_out(held, test, num_classes=2)
    refused(lambda: check_held_out(held, test, num_classes=1), match="the label 1 but .* 1 class")
    bare = Dataset("bare", pixels[:2], np.zeros(2, int), labeled=False)
    refused(lambda: check_held_out(bare, test, num_classes=1), match="has no labels")
