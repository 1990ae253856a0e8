"""Where one side has no names, every command says that labels are positions."""

import json
from pathlib import Path

import numpy as np
import pytest

from robustcl.cli.main import robustcl
from robustcl.core.classifier import Classifier
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint
from robustcl.models.heads import LinearHead
from robustcl.records.reading import load_run
from tests.cli.random_checkpoint import random_checkpoint

NAMES = ("cat", "dog", "emu")


def named_data(tmp_path: Path) -> tuple[Path, str]:
    model, _ = random_checkpoint(tmp_path, count=40)
    with np.load(tmp_path / "data.npz") as arrays:
        np.savez(tmp_path / "named.npz", **arrays, class_names=NAMES)  # pyright: ignore[reportArgumentType]
    return model, f"npz:{tmp_path / 'named.npz'},split=all"


def test_a_suite_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = named_data(tmp_path)
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f'question = "Is it said?"\ndata = [{json.dumps(data)}]\nmetrics = ["clean_accuracy"]\n'
        f"[models.some]\ncheckpoint = {json.dumps(str(model))}\n"
    )
    assert robustcl(["bench", str(suite), "--out", str(tmp_path / "bench"), "--quiet"]) == 0
    assert "note: labels are taken as positions" in capsys.readouterr().err


def test_a_suite_leaves_out_unknown_classes_when_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = named_data(tmp_path)
    loaded = load_checkpoint(model)
    assert loaded.classifier is not None and isinstance(loaded.classifier.head, LinearHead)
    head = loaded.classifier.head
    named = Classifier(
        loaded.encoder, LinearHead(head.weight, head.bias), class_names=("cat", "ant", "emu")
    )
    save_checkpoint(tmp_path / "other.safetensors", named.eval(), loaded.description)
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f'question = "Is it left out?"\ndata = [{json.dumps(data)}]\n'
        'metrics = ["clean_accuracy", "nll"]\n'
        f"[models.some]\ncheckpoint = {json.dumps(str(tmp_path / 'other.safetensors'))}\n"
    )
    assert robustcl(["bench", str(suite), "--out", str(tmp_path / "a"), "--quiet"]) == 4
    assert "lacks: 'dog'" in capsys.readouterr().err
    words = ["bench", str(suite), "--out", str(tmp_path / "b"), "--quiet", "--classes", "known"]
    assert robustcl(words) == 0
    assert "images are left out, of a class that the classifier lacks: 'dog'" in (
        capsys.readouterr().err
    )
    (place,) = (tmp_path / "b").rglob("calibration/cell.json")
    with np.load(tmp_path / "named.npz") as arrays:
        kept = int((arrays["labels"] != 1).sum())
    rows = json.loads(place.read_text(encoding="utf-8"))["rows"]
    assert kept // 2 - 1 <= rows[0]["n"] <= kept // 2 + 1
    assert load_run(next((tmp_path / "b").rglob("l2/manifest.json")).parent).notes


def test_an_ensemble_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = named_data(tmp_path)
    loaded = load_checkpoint(model)
    assert loaded.classifier is not None and isinstance(loaded.classifier.head, LinearHead)
    head = loaded.classifier.head
    named = Classifier(loaded.encoder, LinearHead(head.weight, head.bias), class_names=NAMES)
    save_checkpoint(tmp_path / "named.safetensors", named.eval(), loaded.description)
    words = ["multiview", str(tmp_path / "named.safetensors"), "--data", data, "--count", "2"]
    words += ["--aggregate", "score", "--held-out", "10", "--attacked", "1", "--no-certificates"]
    words += ["--attack", "pgd:steps=1,restarts=1", "--quiet", "--ensemble", str(model)]
    robustcl([*words, "--out", str(tmp_path / "study")])  # its random labels may lack a class
    assert "are matched by position, not by name" in capsys.readouterr().err
