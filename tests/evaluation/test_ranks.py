"""Several processes that share a run: the records are those of one, whoever is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.data import Dataset
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.measuring import evaluate
from robustcl.records.arrays import load_arrays
from robustcl.records.examples import TRIPLES, load_examples
from robustcl.records.ranks import own_chunks, own_device
from robustcl.records.reading import load_run
from tests.cli.random_checkpoint import random_checkpoint
from tests.network import small_classifier, some_images

AUDIT = EvaluationConfig(
    methods=("product", "smoothing:sigma=.25,n=20"), attacks=("deepfool:steps=3", "fmn:steps=4"),
    eps=(1.0,), batch_size=16,
)  # fmt: skip


def data(count: int) -> tuple[Classifier, Dataset]:
    model, images = small_classifier(), some_images(count)
    labels = model(images).argmax(1).numpy().copy()
    return model, Dataset("random", images.permute(0, 2, 3, 1).numpy(), labels)


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, count: int) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(count))


OWN = {"seconds", "stage_seconds", "session", "crc"}  # of a session, not of an image


def plain(folder: Path) -> list[dict]:
    lines = [
        json.loads(line)
        for place in folder.glob("records-*.jsonl")
        for line in place.read_text().splitlines()
    ]
    kept = [{key: line[key] for key in line if key not in OWN} for line in lines]
    return sorted(kept, key=lambda line: (line["kind"], line["method"], line["index"]))


def same(first: Path, second: Path) -> None:
    assert plain(first) == plain(second)
    for name in sorted(place.name.split(".")[0] for place in first.glob("arrays/*.npz")):
        shared = ("eps", "evaluations", "attack")
        if name == "triples":
            one, other = load_examples(first), load_examples(second)
        else:
            one, other = (load_arrays(place, name, shared=shared) for place in (first, second))
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


class Stops(torch.nn.Module):
    """Is interrupted at one call."""

    def __init__(self, inner: torch.nn.Module, call: int) -> None:
        super().__init__()
        self.inner, self.call, self.num_classes = inner, call, inner.num_classes
        self.calls: list[int] = []  # a number would be a state that is refused

    def affine(self) -> object:
        return self.inner.affine()  # pyright: ignore[reportCallIssue]

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(points))
        if len(self.calls) == self.call:
            raise KeyboardInterrupt
        return self.inner(points)


def stopping(call: int) -> Classifier:
    model = small_classifier()
    model.head = Stops(model.head, call)
    return model


def test_three_processes_write_what_one_does(tmp_path: Path, monkeypatch) -> None:
    model, dataset = data(2 * TRIPLES + 28)
    assert evaluate(model, dataset, AUDIT, tmp_path / "one", progress=False)
    last = []
    for rank in (0, 2, 1):
        as_rank(monkeypatch, rank, 3)
        last.append(evaluate(model, dataset, AUDIT, tmp_path / "three", progress=False))
    assert last == [False, False, True]
    assert load_run(tmp_path / "three").manifest["complete"]
    assert len(list((tmp_path / "three").glob("records-*.jsonl"))) == 3
    same(tmp_path / "one", tmp_path / "three")


@pytest.mark.parametrize("call", [3, 60, 200])
def test_a_lost_process_is_made_up_for_by_any_number(tmp_path: Path, monkeypatch, call) -> None:
    model, dataset = data(60)
    evaluate(model, dataset, AUDIT, tmp_path / "one", progress=False)
    folder = tmp_path / "three"
    as_rank(monkeypatch, 0, 2)
    evaluate(model, dataset, AUDIT, folder, progress=False)
    as_rank(monkeypatch, 1, 2)
    with pytest.raises(KeyboardInterrupt):
        evaluate(stopping(call), dataset, AUDIT, folder, progress=False)
    assert not load_run(folder).manifest["complete"]
    with (folder / "records-1.jsonl").open("a") as stream:
        stream.write('{"kind": "clean", "ind')  # as a process leaves it that is killed
    ends = []
    for rank in (0, 1, 2):
        as_rank(monkeypatch, rank, 3)
        ends.append(evaluate(model, dataset, AUDIT, folder, resume=True, progress=False))
    assert ends.count(True) == 1
    same(tmp_path / "one", folder)


def test_a_process_waits_for_the_first_and_refuses_another_run(tmp_path: Path, monkeypatch) -> None:
    model, dataset = data(16)
    as_rank(monkeypatch, 1, 2)
    monkeypatch.setattr("robustcl.records.writing._PATIENCE", 0.1)
    with pytest.raises(Exception, match="RANK 0"):
        evaluate(model, dataset, AUDIT, tmp_path / "run", progress=False)
    as_rank(monkeypatch, 0, 2)
    evaluate(model, dataset, AUDIT, tmp_path / "run", progress=False)
    as_rank(monkeypatch, 1, 2)
    other = EvaluationConfig(methods=("product",), attacks=())
    with pytest.raises(Exception, match="another run"):
        evaluate(model, dataset, other, tmp_path / "run", progress=False)


def test_chunks_are_shared_without_rest_or_overlap(monkeypatch) -> None:
    for count in (1, 2, 5):
        seen = []
        for rank in range(count):
            as_rank(monkeypatch, rank, count)
            seen += [row for chunk in own_chunks(43, 8) for row in chunk.tolist()]
        assert sorted(seen) == list(range(43))
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device("cuda") == "cuda:3"
    assert own_device("cpu") == "cpu"
    as_rank(monkeypatch, 5, 2)
    with pytest.raises(InputError, match="RANK 5"):
        next(own_chunks(43, 8))


def test_torchrun_certifies_a_checkpoint(tmp_path: Path) -> None:
    checkpoint, source = random_checkpoint(tmp_path)
    words = [
        *("run", str(checkpoint), "--data", source, "--limit", "40", "--batch-size", "16"),
        *("--methods", "product", "--attack", "fmn", "--eps", "0.5", "--quiet", "--json"),
    ]
    root = Path(__file__).resolve().parents[2]
    clean = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    clean["OMP_NUM_THREADS"] = "1"
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    found = {}
    for name, how in (("one", ()), ("two", launcher)):
        folder = tmp_path / name
        command = [sys.executable, *how, "-m", "robustcl.certify", *words, "--out", str(folder)]
        done = subprocess.run(
            command, env=clean, cwd=root, capture_output=True, text=True, check=True
        )
        found[name] = json.loads(done.stdout)  # one process alone writes the summary
        assert (folder / "report.html").is_file()
    same(tmp_path / "one", tmp_path / "two")
    assert found["one"]["certified_accuracy"] == found["two"]["certified_accuracy"]
