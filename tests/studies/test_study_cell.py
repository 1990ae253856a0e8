"""A suite with multi-view studies: its metrics are the study's, and its page has the verdicts."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustcl.cli.main import robustcl
from robustcl.core.errors import InputError
from robustcl.report.study_page import sentences
from robustcl.report.suite_folder import load_suite_run
from robustcl.studies import cells, read_suite
from tests.cli.random_checkpoint import random_checkpoint

METRICS = ["accuracy_gain", "transfer_gain", "adaptive_gain", "nll_change"]
STUDY: dict[str, Any] = {"views": "shift:pixels=1", "count": [1, 3], "aggregate": ["score", "vote"]}
SMALL: dict[str, Any] = {
    "question": "?", "metrics": METRICS, "norms": ["l2", "linf"], "seeds": [0, 1],
    "multiview": STUDY, "models": {"a": {}},
}  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    checkpoint, _ = random_checkpoint(folder, count=80)
    stored = dict(np.load(folder / "data.npz"))
    stored["labels"][::4], stored["labels"][1::4] = 0, 2  # it predicts one class nearly always
    np.savez(folder / "data.npz", **stored)
    file = folder / "tiny.toml"
    file.write_text(f"""
question = "Does it help?"
data = ["npz:{folder / "data.npz"},split=all"]
limit = 40
batch_size = 40
metrics = {METRICS}
[eps]
l2 = [0.5]
[multiview]
views = "shift:pixels=1"
count = [1, 3]
aggregate = ["score", "vote"]
held_out = 30
attacked = 10
attack = "every_view:steps=5"
certificates = false
draws = 2
[models.given]
checkpoint = "{checkpoint}"
""")
    place = folder / "out"
    assert robustcl(["bench", str(file), "--out", str(place), "--quiet"]) == 0
    return place


def test_metrics_of_a_study_ask_for_one_per_model_seed_and_norm() -> None:
    found = cells(read_suite("small", SMALL))
    assert [cell.kind for cell in found] == 2 * ["model", "study", "study"]
    assert {cell.norm for cell in found if cell.kind == "study"} == {"l2", "linf"}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"multiview": {"cuont": [1]}}, ["'cuont'", "[multiview]", "count"]),
        ({"multiview": {"eps": 0.5}}, ["'eps'"]),  # the suite says it
        ({"multiview": {"count": [0]}}, ["zero views"]),
        ({"multiview": {"count": 3}}, ["count is 3: expected str, got int"]),
        ({"multiview": {"aggregate": ["mean"]}}, ["mean", "embedding"]),
        ({"multiview": {"views": "shfit"}}, ["shfit"]),
        ({"multiview": {"attack": "pgd:stepps=3"}}, ["stepps"]),
        ({"metrics": ["nll"]}, ["no metric of a study", "adaptive_gain"]),
    ],
)
def test_mistakes_are_quoted(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        read_suite("small", {**SMALL, **change})
    assert all(word in str(error.value) for word in words), error.value


def test_the_page_has_verdicts_and_both_gains(out: Path) -> None:
    (_, state) = load_suite_run(out).cells
    folder = out / state["cell"]
    study = json.loads((folder / "study.json").read_text())
    config = json.loads((folder / "manifest.json").read_text())["config"]
    assert config["eps"] == 0.5 and config["num_examples"] == 40 and config["counts"] == [1, 3]
    compared = study["comparisons"]["score of 3"]
    found = dict(zip(METRICS, ("accuracy", "transfer_gain", "adaptive_gain", "nll"), strict=True))
    assert state["metrics"] == {name: compared[key]["value"] for name, key in found.items()}
    text = (out / "report.html").read_text(encoding="utf-8")
    for sentence in sentences(study, config):
        assert sentence in text
    assert f'href="{state["cell"]}/report.html"' in text
    with (out / "tables/multiview_gains.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["views"] for row in rows] == ["score of 3", "vote of 3", "score of 3, fresh"]
    for row in rows:
        one = study["comparisons"].get(row["views"], study["fresh"])
        assert float(row["adaptive_value"]) == pytest.approx(one["adaptive_gain"]["value"])
        assert float(row["transfer_low"]) == pytest.approx(one["transfer_gain"]["low"])
    with (out / "tables/multiview_calibration.csv").open(newline="") as stream:
        images = [(row["views"], row["images"]) for row in csv.DictReader(stream)]
    assert len(set(images)) == len(images) == 9


def test_a_study_that_was_cut_goes_on_from_its_stages(out: Path) -> None:
    (_, state) = load_suite_run(out).cells
    folder = out / state["cell"]
    stages = {place: place.stat().st_mtime_ns for place in folder.rglob("outputs-*")}
    before = json.loads((folder / "study.json").read_text())
    (folder / "cell.json").unlink()
    (folder / "study.json").unlink()
    suite = out.parent / "tiny.toml"
    assert robustcl(["bench", str(suite), "--out", str(out), "--quiet", "--resume"]) == 0
    assert json.loads((folder / "study.json").read_text()) == before
    assert stages and stages == {place: place.stat().st_mtime_ns for place in stages}
