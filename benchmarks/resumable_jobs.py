"""State the commands that are stopped and resumed, and read what two runs of each must share."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from robustcl.records.arrays import load_arrays
from robustcl.records.examples import load_examples

OWN = {"seconds", "stage_seconds", "session", "crc"}  # of a session, not of an image
COMMON = ("--data", "digits", "--quiet")
SUITE = """\
question = "Does a suite go on where it was stopped?"
data = ["digits"]
norms = ["l2"]
seeds = [0, 1]
limit = 24
batch_size = 8
metrics = ["clean_accuracy", "certified_accuracy", "attacked_accuracy", "calibration_error"]
certificates = ["product", "smoothing:sigma=.25,n=500,form=mean"]
attacks = ["fmn"]

[eps]
l2 = [0.2, 2.0]

[models.small]
epochs = 2
label_weight = 0.8
measure_every = 0
"""


@dataclass(frozen=True)
class Job:
    """State a command that is stopped.

    Args:
        name: What results call it.
        words: Program and arguments; CHECKPOINT and SUITE stand for files.
        results: Reads what must be equal from the folder of a run.
        out: What --out names in that folder; '' for the folder itself.
        begun: Files that a run has left that can be gone on with.
    """

    name: str
    words: tuple[str, ...]
    results: Callable[[Path], Any]
    out: str = ""
    begun: tuple[str, ...] = ("manifest.json",)


def whole_lines(folder: Path) -> int:
    """Count the records on the disk.

    Args:
        folder: The run folder.

    Returns:
        Their number, a line that was cut off left out.
    """
    return sum(place.read_bytes().count(b"\n") for place in folder.glob("records-*.jsonl"))


def plain_records(folder: Path) -> list[dict[str, Any]]:
    """Read the records without their times.

    Args:
        folder: The run folder.

    Returns:
        The records, sorted by kind, method and index.
    """
    lines = [
        json.loads(line)
        for place in folder.glob("records-*.jsonl")
        for line in place.read_text(encoding="utf-8").splitlines()
    ]
    kept = [{key: line[key] for key in line if key not in OWN} for line in lines]
    return sorted(kept, key=lambda line: (line["kind"], line["method"], line["index"]))


def same_arrays(first: Path, second: Path) -> bool:
    """Compare the arrays of two runs.

    Args:
        first: A run folder.
        second: A run folder.

    Returns:
        Whether they are equal, in any order of rows.
    """
    return same(arrays_of(first), arrays_of(second))


def arrays_of(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Read the arrays of a run, those of several processes joined.

    Args:
        folder: The run folder.

    Returns:
        By file and name.
    """
    found = {}
    for name in sorted({place.name.split(".")[0] for place in folder.glob("arrays/[!.]*.npz")}):
        shared = ("eps", "evaluations", "attack")
        triples = name == "triples"
        found[name] = load_examples(folder) if triples else load_arrays(folder, name, shared=shared)
    return found


def _of_run(folder: Path) -> Any:
    # Read what two runs of `certify run` or `robustcl attack` share.
    return plain_records(folder), arrays_of(folder)


def _of_study(folder: Path) -> Any:
    # Read what two studies share.
    content = json.loads((folder / "study.json").read_text())
    arrays = {}
    for place in sorted(folder.glob("arrays/[!.]*.npz")):
        with np.load(place) as stored:
            arrays[place.name] = {name: stored[name] for name in stored.files}
    return {key: value for key, value in content.items() if key != "checksum"}, arrays


def _of_suite(folder: Path) -> Any:
    # Read what two runs of a suite share.
    cells = {}
    for place in sorted(folder.rglob("cell.json")):
        content = json.loads(place.read_text())
        metrics = {k: v for k, v in content["metrics"].items() if "seconds" not in k}
        runs = _of_run(place.parent) if any(place.parent.glob("records-*")) else ()
        facts = (content["status"], metrics, content["left_out"], runs)
        cells[str(place.relative_to(folder))] = facts
    weights = {str(p.relative_to(folder)): _tensors(p) for p in folder.rglob("*.safetensors")}
    return cells, weights


def _of_training(folder: Path) -> Any:
    # Read what two trainings share: weights, and the log without times.
    with (folder / "model.csv").open(newline="") as stream:
        rows = [
            {k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(stream)
        ]
    left = sorted(p.name for p in folder.iterdir() if p.suffix not in (".csv", ".png"))
    return _tensors(folder / "model.safetensors"), rows, left


def _of_file(folder: Path) -> Any:
    # Read what two outputs in one file share.
    (place,) = folder.iterdir()
    if place.suffix == ".safetensors":
        return _tensors(place)
    with np.load(place) as stored:
        return {name: stored[name] for name in stored.files}


def _tensors(place: Path) -> dict[str, np.ndarray]:
    # Read the tensors of a checkpoint.
    with safe_open(place, framework="numpy") as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118


def same(first: Any, second: Any) -> bool:
    """Compare plain values and arrays, bit for bit.

    Args:
        first: What a run gave.
        second: What another gave.

    Returns:
        Whether they are equal.
    """
    if isinstance(first, np.ndarray):
        numbers = first.dtype.kind == "f"
        return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=numbers)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


JOBS = (
    Job(
        "certify run",
        (*("certify", "run", "CHECKPOINT", *COMMON, "--batch-size", "8", "--limit", "64"),
         *("--methods", "product,smoothing:sigma=.25,n=500,form=mean", "--eps", "0.2,2"),
         *("--attack", "deepfool,fmn")),
        _of_run,
    ),
    Job(
        "robustcl attack",
        (*("robustcl", "attack", "CHECKPOINT", *COMMON, "--batch-size", "8", "--limit", "64"),
         *("--eps", "0.9", "--protocol", "standard")),
        _of_run,
    ),
    Job(
        "robustcl train",
        (*("robustcl", "train", *COMMON, "--epochs", "12", "--label-weight", "0.8"),
         *("--save-every", "3", "--measure-every", "4")),
        _of_training,
        out="model.safetensors",
        begun=("model.state.safetensors", "model.safetensors"),
    ),
    Job(
        "robustcl multiview",
        (*("robustcl", "multiview", "CHECKPOINT", *COMMON, "--limit", "60", "--held-out", "60"),
         *("--count", "1,2,4", "--attacked", "8", "--views", "shift:pixels=1,flip=false"),
         *("--attack", "every_view:steps=5,restarts=1")),
        _of_study,
    ),
    Job("robustcl bench", ("robustcl", "bench", "SUITE", "--quiet"), _of_suite),
)  # fmt: skip
FILES = (
    Job("robustcl embed", ("robustcl", "embed", "CHECKPOINT", "--data", "digits"), _of_file,
        out="out.npz", begun=()),
    Job("robustcl probe", ("robustcl", "probe", "CHECKPOINT", *COMMON, "--head", "knn"), _of_file,
        out="out.safetensors", begun=()),
)  # fmt: skip
