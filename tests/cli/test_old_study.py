"""A study that an older version began, without stating its rows, is gone on with."""

from pathlib import Path

import numpy as np
import pytest

from robustcl.cli.main import robustcl
from robustcl.records.reading import read_manifest
from robustcl.studies.multiview import running as multiview
from tests.cli.random_checkpoint import random_checkpoint


def test_a_study_of_the_first_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = random_checkpoint(tmp_path, count=200)
    with np.load(tmp_path / "data.npz") as arrays:  # of every class enough images
        np.savez(tmp_path / "data.npz", images=arrays["images"], labels=np.arange(200) % 3)
    words = ["multiview", str(model), "--data", f"{data},split=all", "--count", "2", "--quiet"]
    words += ["--aggregate", "score", "--held-out", "60", "--attacked", "1", "--no-certificates"]
    words += ["--attack", "pgd:steps=1,restarts=1", "--limit", "9", "--out", str(tmp_path / "old")]
    with monkeypatch.context() as older:
        older.setattr(multiview, "old_rule", lambda folder, *, resume: "first")
        assert robustcl(words) == 0
    assert "rows" not in read_manifest(tmp_path / "old")["config"]
    assert robustcl([*words, "--resume"]) == 0
