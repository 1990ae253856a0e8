"""Data without labels never gets an accuracy: not on a page, in a table, in JSON, at a gate."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustcl.cli.main import certify, robustcl
from robustcl.core.errors import RunError
from robustcl.records.images import per_image
from robustcl.records.reading import load_run
from robustcl.records.summary import summarize
from robustcl.report.compared_runs import compared_run
from robustcl.report.headline import clean_sentence, headline
from robustcl.report.robustbench import robustbench_entry
from robustcl.report.tables import tables
from robustcl.workflows.outputs import finish
from tests.cli.random_checkpoint import random_checkpoint
from tests.report.synthetic_run import attack, certificate, clean, write_run

RECORDS = [
    *(clean(0, -1, 0), clean(1, -1, 1), clean(2, -1, 0)),
    *(certificate(0, -1, 0, 0.05), certificate(1, -1, 1, 0.25), certificate(2, -1, 0, 0.6)),
    *(attack(0, -1, 0, 0.3), attack(1, -1, 1, 0.8), attack(2, -1, 0, None)),
    *(attack(k, -1, k % 2, None, method="autoattack") for k in range(3)),
]


@pytest.fixture
def unlabeled(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", RECORDS, labeled=False)


def test_rates_are_of_predictions_that_are_kept(unlabeled: Path) -> None:
    run = load_run(unlabeled)
    summary, images = summarize(run), per_image(run)
    assert images["correct"].tolist() == [True] * 3
    assert images["label"].tolist() == images["predicted"].tolist()
    assert summary.clean_accuracy is None and summary.interval95 is None
    assert summary.headline_radius == 0.1
    assert summary.headline_certified == pytest.approx(2 / 3)
    assert summary.headline_attacked == 1.0
    assert summary.median_certified_radius == 0.25
    assert summary.by_method["product"]["median"] == 0.25


def test_no_number_is_called_an_accuracy(unlabeled: Path) -> None:
    run = load_run(unlabeled)
    summary = summarize(run)
    found = summary.to_dict()
    named = {key: value for key, value in found.items() if "accuracy" in key}
    assert set(named.values()) == {None} and found["certified_share"] and found["attacked_share"]
    assert all("accuracy" not in key for entry in found["by_method"].values() for key in entry)
    accuracies = [
        value for key, value in robustbench_entry(run, summary).items() if key.endswith("_acc")
    ]
    assert accuracies and set(accuracies) == {None}
    for table in tables(run, summary).values():
        assert not [c for c in table.columns if "accuracy" in str(c) or c in ("correct", "label")]
    assert "no labels" in clean_sentence(summary) and "accuracy" not in headline(summary)
    assert "keep their predicted class" in headline(summary)
    with pytest.raises(RunError, match="without labels"):
        compared_run(unlabeled, "run")


def test_labeled_runs_of_older_versions_stay_labeled(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", [clean(0, 0, 0), clean(1, 1, 0)]))
    assert "labeled" not in run.manifest and summarize(run).clean_accuracy == 0.5


def test_commands_on_photos_without_classes(tmp_path: Path, capsys) -> None:
    random_checkpoint(tmp_path)
    pixels = np.load(tmp_path / "data.npz")["images"]
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        Image.fromarray(pixels[number].squeeze()).save(photos / f"{number}.png")
    model, data = str(tmp_path / "model.safetensors"), f"imagefolder:{photos},split=all"
    words = [model, "--data", data, "--quiet"]
    assert certify(["run", *words, "--out", str(tmp_path / "run"), "--methods", "product"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("no labels, so no accuracy") and "images without labels" in said.err
    assert "clean accuracy:" not in said.out + said.err
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "nothing here is an accuracy" in page and ">clean accuracy<" in page
    kept = json.loads((tmp_path / "run" / "robustbench.json").read_text(encoding="utf-8"))
    assert kept["clean_acc"] is kept["attacked_acc"] is kept["certified_acc"] is None
    out = ["--out", str(tmp_path / "attack"), "--protocol", "fast", "--json"]
    assert robustcl(["attack", *words, *out]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "robust_accuracy" not in found and 0.0 <= found["robust_share"] <= 1.0
    gate = ["--require", "clean_accuracy>=0.5", "--out", str(tmp_path / "gate")]
    assert certify(["run", *words, *gate]) == 2
    assert "has no labels, so 'clean_accuracy>=0.5' cannot be judged" in capsys.readouterr().err
    assert not (tmp_path / "gate").exists()
    for command in (["multiview", *words, "--out", str(tmp_path / "study")],
                    ["probe", *words, "--out", str(tmp_path / "x.safetensors")]):  # fmt: skip
        assert robustcl(command) == 2
        assert "has no labels" in capsys.readouterr().err or command[0] == "probe"


def test_probabilistic_certificates_are_told_beside_the_headline(tmp_path: Path, capsys) -> None:
    terms = {"method": "smoothing:n=9", "guarantee": "probabilistic", "subject": "smoothed model"}
    records = [
        *(clean(0, 0, 0), clean(1, 1, 1), clean(2, 0, 1)),
        *(certificate(0, 0, 0, 0.4, **terms), certificate(1, 1, -1, 0.0, **terms)),
        certificate(2, 0, 1, 0.9, **terms),
    ]
    place = write_run(tmp_path / "run", records)
    assert finish(place, json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "clean accuracy: 66.7 % [9.4, 99.2] of 3 images"
    assert "nothing is certified for the model itself" in lines[1]
    assert lines[2] == (
        "smoothing:n=9, probabilistic, about the smoothed model: 33.3 % of 3 images stay correct "
        "within L2 0.1, median radius 0, 1 abstained"
    )
    assert lines[3].startswith("violations: not looked for")


def test_a_gate_on_what_was_not_measured_is_missed_in_words(tmp_path: Path, capsys) -> None:
    place = write_run(tmp_path / "run", [clean(0, 0, 0), clean(1, 1, 1)])
    gates = ["clean_accuracy>=1", "attacked_accuracy@0.1>=0", "certified_accuracy@0.1>=0"]
    assert finish(place, json=False, require=gates) == 3
    missed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("missed")]
    assert missed == [f"missed: {gate}, it is not measured" for gate in gates[1:]]
