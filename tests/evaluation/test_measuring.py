"""An audit: memory that runs out, an interruption, pictures of the smallest perturbation."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from robustcl import attacks
from robustcl.core.classifier import Classifier
from robustcl.core.errors import UnsupportedError
from robustcl.data import Dataset
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.measuring import evaluate
from robustcl.models.heads import KNNHead
from robustcl.records.arrays import load_arrays
from robustcl.records.reading import load_run
from robustcl.records.summary import summarize
from tests.network import small_classifier, some_images

AUDIT = EvaluationConfig(
    methods=("product",), attacks=("pgd:steps=5",), eps=(0.1, 1.0), batch_size=8
)


def data(count: int = 20) -> tuple[Classifier, Dataset]:
    model, images = small_classifier(), some_images(count)
    labels = model(images).argmax(1).numpy().copy()
    labels[:5] = (labels[:5] + 1) % 6
    return model, Dataset("random", images.permute(0, 2, 3, 1).numpy(), labels)


def numbers(folder: Path) -> list[tuple]:
    lines = (folder / "records-0.jsonl").read_text().splitlines()
    keys = ("kind", "method", "index", "predicted", "radius")
    return sorted(tuple(str(json.loads(line).get(key)) for key in keys) for line in lines)


class Spoiler(torch.nn.Module):
    """Fails at one call, as a full memory or an impatient user would."""

    def __init__(
        self, inner: torch.nn.Module, error: BaseException, *, call: int, rows: int
    ) -> None:
        super().__init__()
        self.inner, self.error, self.call, self.rows = inner, error, call, rows
        self.calls: list[int] = []  # rows of each; a number would be a state that is refused

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(points))
        if len(self.calls) >= self.call and len(points) >= self.rows:
            raise self.error
        return self.inner(points)


def spoiled(model: Classifier, error: BaseException, *, call: int, rows: int) -> Classifier:
    broken = small_classifier()
    broken.head = Spoiler(model.head, error, call=call, rows=rows)
    broken.head.num_classes = 6  # pyright: ignore[reportArgumentType]
    broken.head.affine = model.head.affine  # pyright: ignore[reportArgumentType]
    return broken


def test_a_full_memory_halves_the_batch_and_loses_nothing(tmp_path: Path, capsys) -> None:
    model, dataset = data()
    error = torch.OutOfMemoryError("out of memory")
    broken = spoiled(model, error, call=5, rows=8)
    evaluate(broken, dataset, AUDIT, tmp_path / "run", progress=False)
    evaluate(model, dataset, AUDIT, tmp_path / "whole", progress=False)
    run = load_run(tmp_path / "run")
    assert run.manifest["batch_size_used"] == 4
    assert run.manifest["complete"]
    assert [line[:4] for line in numbers(tmp_path / "run")] == [
        line[:4] for line in numbers(tmp_path / "whole")
    ]
    assert "--batch-size 4" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_every_type_are_audited_also_within_inference_mode(tmp_path, kind) -> None:
    model, dataset = data(6)
    methods = ("product", "smoothing:n=100", "first_order")
    audit = EvaluationConfig(
        methods=methods, attacks=("pgd:steps=5", "fmn"), eps=(0.5,), batch_size=6
    )
    model.to(kind)
    with torch.inference_mode():
        evaluate(model, dataset, audit, tmp_path, progress=False)
    run = load_run(tmp_path)
    assert len(run.clean) == 6 and len(run.certificates) == 18 and len(run.attacks) == 18
    assert bool(np.isfinite(run.attacks["radius"].to_numpy()).any())
    proved = run.certificates[run.certificates["method"] == "product"].set_index("index")
    assert bool((proved["radius"].to_numpy() > 0).any())
    assert len(load_arrays(tmp_path, "embeddings")["embeddings"]) == 6
    assert summarize(run).violations == []


def test_every_batch_is_on_the_disk_before_the_next(tmp_path: Path, monkeypatch) -> None:
    model, dataset = data()
    synced: list[int] = []

    def fsync(number: int) -> None:
        place = tmp_path / "run/records-0.jsonl"
        if place.exists() and os.path.samestat(os.fstat(number), place.stat()):
            synced.append(place.read_bytes().count(b"\n"))

    monkeypatch.setattr(os, "fsync", fsync)
    evaluate(model, dataset, AUDIT, tmp_path / "run", progress=False)
    each = len(AUDIT.measures)
    assert synced == [8 * each, 16 * each, 20 * each]


def test_an_interruption_leaves_whole_records(tmp_path: Path) -> None:
    model, dataset = data()
    counted = spoiled(model, KeyboardInterrupt(), call=10**9, rows=1)
    evaluate(counted, dataset, AUDIT, tmp_path / "whole", progress=False)
    assert isinstance(counted.head, Spoiler)
    middle = len(counted.head.calls) // 2
    broken = spoiled(model, KeyboardInterrupt(), call=middle, rows=1)
    with pytest.raises(KeyboardInterrupt):
        evaluate(broken, dataset, AUDIT, tmp_path / "run", progress=False)
    before = len(numbers(tmp_path / "run"))
    assert 20 <= before < len(numbers(tmp_path / "whole"))
    assert not load_run(tmp_path / "run").manifest["complete"]
    evaluate(model, dataset, AUDIT, tmp_path / "run", resume=True, progress=False)
    assert numbers(tmp_path / "run") == numbers(tmp_path / "whole")


def test_pictures_show_the_smallest_perturbation_of_right_images(tmp_path: Path) -> None:
    model, dataset = data()
    audit = EvaluationConfig(
        methods=(), attacks=("pgd:steps=5", "pgd:steps=40"), eps=(0.2, 2.0), batch_size=8
    )
    evaluate(model, dataset, audit, tmp_path, progress=False)
    table, kept = load_run(tmp_path).attacks, load_arrays(tmp_path, "triples")
    pairs = zip(table["radius"], table["index"], strict=True)
    least = {int(i): float(r) for r, i in sorted(pairs, reverse=True)}
    assert len(kept["index"]) > 5
    assert set(kept["index"].tolist()) <= set(range(5, 20))
    columns = (kept[key] for key in ("index", "radius", "clean", "attacked"))
    for index, radius, clean, found in zip(*columns, strict=True):
        assert radius == least[int(index)]
        assert np.linalg.norm(found.astype(float) - clean) == pytest.approx(radius, rel=1e-5)


def test_what_a_method_cannot_treat_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model, dataset = data()
    bank = torch.nn.functional.normalize(torch.randn(12, 5), dim=1)
    head = KNNHead(bank, torch.arange(12) % 6, k=3, num_classes=6)
    other = Classifier(model.encoder, head)
    for method in ("smoothing:form=mean", "jacobian_norm", "product"):
        audit = EvaluationConfig(methods=(method,), attacks=())
        with pytest.raises(UnsupportedError, match="form=vote"):
            evaluate(other, dataset, audit, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_the_note_of_an_attack_is_on_record(tmp_path: Path) -> None:
    model = small_classifier(classes=2)
    _, dataset = data(4)
    dataset = Dataset("random", dataset.images, dataset.labels % 2)
    audit = EvaluationConfig(
        methods=(), attacks=("autoattack",), eps=(0.3,), norm="linf", batch_size=4
    )
    evaluate(model, dataset, audit, tmp_path, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "records-0.jsonl").read_text().splitlines()]
    notes = {line.get("note") for line in lines if line["kind"] == "attack"}
    assert attacks.ATTACKS["autoattack"]
    assert len(notes) == 1
    assert "no targeted APGD with 2 classes" in str(notes)
    assert "points depend on the batch" in str(notes)
