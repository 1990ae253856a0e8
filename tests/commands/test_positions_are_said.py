"""Where one side has no names, every command says that labels are positions."""

import json
from pathlib import Path

import numpy as np
import pytest

from robustcl.checkpoint import load_checkpoint, save_checkpoint
from robustcl.classifier import Classifier
from robustcl.cli import robustcl
from robustcl.heads import LinearHead
from tests.commands.random_checkpoint import random_checkpoint

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
