"""The script for a GPU runs through on a CPU, and goes on where it was."""

import json
from pathlib import Path

from benchmarks.on_gpu import TASKS, main


def test_every_task_runs_small_and_once(tmp_path: Path) -> None:
    out = tmp_path / "small.jsonl"
    main(["--out", str(out), "--device", "cpu", "--small", "--only", "vmap"])
    words = ["--out", str(out), "--device", "cpu", "--small"]
    main(words)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(one["task"] for one in found) == sorted(TASKS)
    main(words)
    assert len(out.read_text().splitlines()) == len(found)
    (agreed,) = (one for one in found if one["task"] == "agreement")
    assert all(value == 0.0 for name, value in agreed.items() if "difference" in name)
