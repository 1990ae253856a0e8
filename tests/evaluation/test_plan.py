"""The prediction of a run's time."""

import math

import numpy as np
import pytest

from robustcl.evaluation import plan as room
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.plan import Plan, PlannedCost, plan
from tests.evaluation.test_ranks import data


def test_a_plan_names_every_measure_and_scales(monkeypatch) -> None:
    model, dataset = data(40)
    audit = EvaluationConfig(
        methods=("product", "smoothing:sigma=.25,n=100000,form=vote", "smoothing:n=300"),
        attacks=("deepfool:steps=2",), eps=(1.0,), batch_size=8,
    )  # fmt: skip
    asked = []
    measured = room._measured

    def listening(classifier, sample, audit, device):
        asked.append(audit.methods)
        times = measured(classifier, sample, audit, device)
        # Time that is exactly linear in the number of samples.
        return {
            method: times[method] * 0 + (1e-3 + 1e-6 * int(method.split("n=")[1].split(",")[0]))
            if "n=100," in f"{method}," or "n=500," in f"{method},"
            else times[method]
            for method in times
        }

    monkeypatch.setattr(room, "_measured", listening)
    found = plan(model, dataset, audit, processes=4)
    assert [cost.method for cost in found.costs] == [text for _, text in audit.measures]
    assert (found.images, found.measured, found.processes) == (40, 2, 4)
    assert found.seconds == pytest.approx(sum(c.seconds for c in found.costs) * 10)
    cost = {c.method: c for c in found.costs}
    large = cost["smoothing:sigma=.25,n=100000,form=vote"]
    assert large.samples == 100000
    assert large.seconds == pytest.approx(1e-3 + 1e-6 * 100000)
    assert cost["smoothing:n=300"].samples == 300 and cost["product"].samples is None
    assert not any("100000" in text for methods in asked for text in methods)


def test_one_batch_has_no_error_bar() -> None:
    model, dataset = data(6)
    dataset = dataset.select(slice(1))
    found = plan(model, dataset, EvaluationConfig(methods=("product",), attacks=(), batch_size=8))
    assert all(math.isinf(cost.error) and cost.seconds > 0 for cost in found.costs)
    assert Plan((PlannedCost("a", 2.0, 0.1),), images=100, measured=10, processes=5).seconds == 40.0


def test_noise_in_time_never_makes_samples_free(monkeypatch) -> None:
    model, dataset = data(16)
    text = "smoothing:sigma=.25,n=100000"

    def noisy(classifier, sample, audit, device):
        # The first measurement was disturbed: 100 samples took longer than 500.
        few = any("n=100" in method and "n=1000" not in method for method in audit.methods)
        times = {method: np.full(2, 3.0 if few else 1.0) for method in audit.methods}
        return {**times, "clean": np.full(2, 0.1)}

    monkeypatch.setattr(room, "_measured", noisy)
    audit = EvaluationConfig(methods=(text,), attacks=(), batch_size=8, test_certificates=False)
    cost = {c.method: c for c in plan(model, dataset, audit).costs}[text]
    assert cost.seconds == pytest.approx(1.0 + 99_500 * 1.0 / 500)
