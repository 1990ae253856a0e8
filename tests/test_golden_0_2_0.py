"""Checkpoints, recipes, training states, runs and suites of robustcl 0.2.0 go on to work."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

from robustcl.cli.main import certify, robustcl
from robustcl.models.checkpoint import load_checkpoint
from robustcl.records.reading import load_run
from robustcl.records.summary import summarize

GOLDEN = Path(__file__).parent / "golden" / "version_0_2_0"
SCORES = json.loads((GOLDEN / "scores.json").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))


def rows(place: Path) -> list[dict[str, str]]:
    with place.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("head", sorted(SCORES))
def test_every_head_gives_the_scores_that_it_gave(head: str) -> None:
    classifier = load_checkpoint(GOLDEN / f"{head}.safetensors").classifier
    assert classifier is not None
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = classifier(images).double()
    wanted = torch.tensor(SCORES[head], dtype=torch.float64)
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_an_encoder_without_a_head_loads() -> None:
    loaded = load_checkpoint(GOLDEN / "encoder.safetensors")
    assert loaded.classifier is None
    assert loaded.encoder.image_shape == (1, 8, 8)
    assert loaded.encoder.mean.flatten().tolist() == pytest.approx([0.3])


def test_an_interrupted_training_goes_on_by_its_recipe(folder: Path) -> None:
    out = folder / "half.safetensors"
    command = ["train", "--data", "digits", "--limit", "300", "--out", str(out), "--quiet"]
    assert robustcl([*command, "--recipe", str(folder / "recipe.toml"), "--resume"]) == 0
    before, after = rows(GOLDEN / "half.csv"), rows(out.with_suffix(".csv"))
    wanted = rows(GOLDEN / "finished.csv")
    assert len(after) == len(wanted) == 30
    assert after[: len(before) - 1] == before[:-1]
    assert float(after[-1]["loss"]) == pytest.approx(float(wanted[-1]["loss"]), rel=0.02)
    assert load_checkpoint(out).classifier is not None


def test_a_run_goes_on_and_keeps_its_figures(folder: Path) -> None:
    records = (folder / "run" / "records-0.jsonl").read_bytes()
    wanted = json.loads((GOLDEN / "figures.json").read_text())
    before = summarize(load_run(folder / "run")).to_dict()
    assert {name: before[name] for name in wanted} == wanted
    command = ["run", str(folder / "fine_tune.safetensors"), "--data", "digits", "--batch-size"]
    command += ["3", "--methods", "product,smoothing:sigma=.25,n=1000,first_order", "--attack"]
    command += ["pgd:steps=5", "--out", str(folder / "run"), "--quiet"]
    assert certify([*command, "--limit", "6", "--resume", "--mixed-versions"]) == 0
    assert (folder / "run" / "records-0.jsonl").read_bytes() == records
    assert (folder / "run" / "report.html").stat().st_size > 100_000


def test_a_suite_that_is_done_is_not_done_again(folder: Path) -> None:
    place = folder / "suite" / "plain" / "digits" / "0"
    kept = [place / "l2" / "records-0.jsonl", place / "model" / "model.safetensors"]
    before = [file.read_bytes() for file in kept]
    times = [file.stat().st_mtime_ns for file in kept]
    command = ["bench", str(folder / "suite.toml"), "--out", str(folder / "suite")]
    assert robustcl([*command, "--resume", "--mixed-versions"]) == 0
    assert [file.read_bytes() for file in kept] == before
    assert [file.stat().st_mtime_ns for file in kept] == times
    assert (folder / "suite" / "report.html").is_file()
