"""Curves say whether more work would find more; costs add up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustcl.records.arrays import save_arrays
from robustcl.records.reading import load_run
from robustcl.records.writing import slug
from robustcl.report import write_report
from robustcl.report.convergence import convergence_warnings, convergences
from robustcl.report.tables import budget_table
from tests.report.synthetic_run import attack, certificate, clean, write_run

COUNT = 200
EVALUATIONS = np.array([1, 2, 4, 8, 16])


def a_run(folder: Path, *, when: np.ndarray, nearest: bool = False, **other: Any) -> Path:
    """Make a run whose image i is won after when[i] evaluations of 16, at norm 0.4."""
    records = [clean(i, 0, 0) for i in range(COUNT)]
    records += [attack(i, 0, 0, 0.4, **other) for i in range(COUNT)]
    said = [{"name": "pgd", "parameters": {}, "minimum_norm": nearest}]
    write_run(folder, records, eps=[0.5], attacks=said)
    won = EVALUATIONS[None] >= when[:, None]
    curves = {
        "index": np.arange(COUNT),
        "eps": np.array([0.5]),
        "evaluations": EVALUATIONS,
        "margins": np.where(won, 0.3, -0.2)[:, None].astype(np.float32),
        "norms": np.where(won, 0.4, np.inf)[:, None].astype(np.float32),
        "counts": np.full((COUNT, 1), 16),
    }
    save_arrays(folder, f"curves-{slug('pgd')}", curves)
    return folder


@pytest.mark.parametrize("nearest", [False, True])
def test_what_only_the_second_half_won_is_named(tmp_path: Path, nearest: bool) -> None:
    when = np.full(COUNT, 4)
    when[:3] = 16
    folder = a_run(tmp_path, when=when, nearest=nearest)
    (one,) = convergences(load_run(folder))
    assert one.gains == {0.5: 3 / COUNT}
    (doubt,) = convergence_warnings(load_run(folder))
    assert "pgd has not flattened" in doubt and "1.5 points at L2 0.5" in doubt
    page = write_report(folder).read_text(encoding="utf-8")
    assert doubt in page
    drawn = {place.stem for place in (folder / "figures").iterdir()}
    assert ("nearing" if nearest else "convergence") in drawn


@pytest.mark.parametrize("late", [0, 8])
def test_a_curve_that_is_flat_raises_no_doubt(tmp_path: Path, late: int) -> None:
    when = np.full(COUNT, 4)
    when[:late] = 8  # half of the evaluations
    folder = a_run(tmp_path, when=when)
    assert convergence_warnings(load_run(folder)) == []
    assert "All curves have flattened" in write_report(folder).read_text(encoding="utf-8")


def test_medians_are_those_of_the_images(tmp_path: Path) -> None:
    when = np.where(np.arange(COUNT) < 0.6 * COUNT, 2, 99)
    (one,) = convergences(load_run(a_run(tmp_path, when=when)))
    assert one.attacked == COUNT
    low, middle, high = one.quartiles
    np.testing.assert_allclose(middle, [-0.2, 0.3, 0.3, 0.3, 0.3], rtol=1e-6)
    np.testing.assert_allclose(low, [-0.2] * 5, rtol=1e-6)
    np.testing.assert_allclose(high, [-0.2, 0.3, 0.3, 0.3, 0.3], rtol=1e-6)


def test_success_that_falls_with_the_budget_is_named(tmp_path: Path) -> None:
    folder = a_run(tmp_path, when=np.full(COUNT, 1), failed=0.39)
    assert convergence_warnings(load_run(folder)) == []
    folder = a_run(tmp_path / "b", when=np.full(COUNT, 1), failed=0.45)
    (doubt,) = convergence_warnings(load_run(folder))
    assert "200 of 200" in doubt and "monotonically" in doubt


def test_costs_add_up(tmp_path: Path) -> None:
    stages = {"search": 70, "shrink": 25, "walk": 5}
    times = {"search": 0.06, "shrink": 0.03, "walk": 0.01}
    records = [clean(i, 0, 0) for i in range(4)]
    records += [certificate(i, 0, 0, 0.1, forwards=3) for i in range(4)]
    records += [
        attack(i, 0, 0, 0.4, stages=stages, stage_seconds=times, forwards=150) for i in range(4)
    ]
    records += [
        attack(i, 0, 0, None, method="autoattack", decided=name, forwards=10, gradients=i)
        for i, name in enumerate(["quick", "quick", "survived", "survived"])
    ]
    run = load_run(write_run(tmp_path, records))
    table = budget_table(run).set_index(["method", "stage"])
    assert table.loc[("product", "all"), "forwards"] == 12
    assert np.isnan(table.loc[("product", "all"), "gradients"])
    whole = table.loc[("pgd", "all")]
    parts = table.loc[[("pgd", stage) for stage in stages]]
    assert parts["gradients"].sum() == whole["gradients"] == 400
    assert parts["seconds"].sum() == pytest.approx(whole["seconds"])
    assert table.loc[("autoattack", "decided: survived"), "gradients"] == 5
    assert table.loc[("autoattack", "decided: quick"), "images"] == 2
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Where the budget went" in page and "decided: survived" in page
    written = (tmp_path / "tables" / "budget.csv").read_text(encoding="utf-8")
    assert written.count("\n") == len(table) + 1


def test_an_older_run_without_these_numbers_is_still_reported(tmp_path: Path) -> None:
    records = [clean(0, 0, 0), certificate(0, 0, 0, 0.1), attack(0, 0, 0, 0.3)]
    folder = write_run(tmp_path, records)
    assert convergence_warnings(load_run(folder)) == []
    write_report(folder)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["certified_balls"] is None
