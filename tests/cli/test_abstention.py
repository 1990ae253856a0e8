"""Black images whose embedding is 0, through every command: named, wrong, and in nobody's way."""

import json
from pathlib import Path

import numpy as np
import pytest

from robustcl.cli.main import certify, robustcl
from robustcl.data import load_data
from robustcl.data.splits import draw_order
from robustcl.evaluation import EvaluationConfig, evaluate
from robustcl.models.checkpoint import load_checkpoint
from robustcl.records.arrays import load_arrays
from robustcl.records.images import per_image
from robustcl.records.reading import load_run
from robustcl.records.summary import summarize
from tests.cli.dark_checkpoint import BLACK, dark_checkpoint

COUNT = 40
RIGHT = 29  # of 40 each fourth is wrong, and so are two black ones, of which one is among these
METHODS = "product,sound,smoothing:n=50,jacobian_norm,first_order,clever:batches=2,samples=4"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dark")
    dark_checkpoint(folder)
    return folder


def words(place: Path, *more: str) -> list[str]:
    data = f"npz:{place / 'dark.npz'},split=all"
    return [str(place / "dark.safetensors"), "--data", data, *more]


def named(err: str) -> None:
    # Once, in one line.
    assert err.count("warning: 2 ") == 1 and err.count("(5, 20)") == 1


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_run_goes_on_and_counts_them_as_wrong(place: Path, norm: str, capsys) -> None:
    out = place / f"run-{norm}"
    more = ("--methods", METHODS, "--attack", "pgd:steps=3,deepfool", "--norm", norm, "--quiet")
    assert certify(["run", *words(place, "--out", str(out), *more)]) == 0
    seen = capsys.readouterr()
    named(seen.err)
    assert "The model abstains on 2 images" in seen.out + seen.err
    run = load_run(out)
    found = summarize(run)
    assert found.n == COUNT and found.abstained == 2 and found.violations == []
    assert found.clean_accuracy == RIGHT / COUNT
    images = per_image(run).loc[list(BLACK)]
    assert images["label"].tolist() == [0, 0] and images["predicted"].tolist() == [-1, -1]
    assert set(images["correct"]) == {False} and set(images["certified"]) == {0.0}
    assert set(images["certified_by"]) == {""} and set(images["fooled"]) == {np.inf}
    for table in (run.certificates, run.attacks):
        rows = table[table["index"].isin(BLACK)]
        assert len(rows) == 2 * table["method"].nunique()
    models = run.certificates[run.certificates["subject"] == "model"]
    rows = models[np.isin(models["index"], BLACK)]
    assert set(rows["predicted"]) == {-1} and set(rows["radius"]) == {0.0}
    assert set(run.attacks[np.isin(run.attacks["index"], BLACK)]["gradients"]) == {0}
    assert not set(BLACK) & set(load_arrays(out, "embeddings")["index"].tolist())
    assert (out / "report.html").exists()


def test_others_get_the_same_records_as_without_them(place: Path, tmp_path: Path) -> None:
    # The verdict for an image depends neither on those beside it nor on their absence.
    classifier = load_checkpoint(place / "dark.safetensors").classifier
    assert classifier is not None
    data = load_data(f"npz:{place / 'dark.npz'},split=all", split="test")
    audit = EvaluationConfig(
        methods=("product",), attacks=("pgd:steps=3",), eps=(0.1, 0.5), batch_size=8
    )
    evaluate(classifier, data, audit, tmp_path / "all", progress=False)
    first = data.select(slice(5))  # those before the first black one keep their places
    evaluate(classifier, first, audit, tmp_path / "some", progress=False)
    every, some = (per_image(load_run(tmp_path / name)) for name in ("all", "some"))
    columns = ["predicted", "certified", "attacked", "fooled"]
    assert np.allclose(every.loc[:4, columns], some[columns], atol=1e-6)


@pytest.mark.parametrize("protocol", ["fast", "standard"])
def test_an_attack_is_credited_with_none_of_them(place: Path, protocol: str, capsys) -> None:
    out = place / protocol
    more = ("--protocol", protocol, "--norm", "l2", "--eps", "0.05", "--quiet", "--json")
    assert robustcl(["attack", *words(place, "--out", str(out), *more)]) == 0
    seen = capsys.readouterr()
    named(seen.err)
    found = json.loads(seen.out[seen.out.index("{") :])
    assert found["clean_accuracy"] == RIGHT / COUNT and found["abstained"] == 2
    rows = load_run(out).attacks
    assert np.isinf(rows[rows["index"].isin(BLACK)]["deployed"]).all()


def test_embeddings_are_nan_and_named(place: Path, capsys) -> None:
    assert robustcl(["embed", *words(place, "--out", str(place / "points.npz"))]) == 0
    named(capsys.readouterr().err)
    stored = np.load(place / "points.npz")
    assert np.flatnonzero(np.isnan(stored["embeddings"]).all(axis=1)).tolist() == list(BLACK)
    assert np.flatnonzero(stored["norms"] == 0).tolist() == list(BLACK)
    lengths = np.linalg.norm(np.delete(stored["embeddings"], BLACK, axis=0), axis=1)
    assert np.allclose(lengths, 1.0, atol=1e-6)


@pytest.mark.parametrize("kind", ["--head prototype", "--head linear", "--head knn",
                                  "--protocol slf"])  # fmt: skip
def test_a_probe_counts_them_as_wrong(place: Path, kind: str, capsys) -> None:
    out = place / f"{kind.split()[1]}.safetensors"
    more = (*kind.split(), "--out", str(out), "--epochs", "1", "--quiet", "--json")
    assert robustcl(["probe", *words(place, *more)]) == 0
    seen = capsys.readouterr()
    named(seen.err)
    found = json.loads(seen.out[seen.out.index("{") :])
    classifier = load_checkpoint(out).classifier
    assert classifier is not None
    stored = load_data(f"npz:{place / 'dark.npz'},split=all", split="train")
    batch = stored.batch(np.delete(np.arange(COUNT), BLACK))
    right = int((classifier(batch.images).argmax(dim=1) == batch.labels).sum())
    assert found["train_accuracy"] == pytest.approx(right / COUNT)
    if found["held_out"]:
        assert 0.0 <= found["held_out"]["calibration_error"] <= 1.0


def test_a_study_of_views_goes_on(tmp_path: Path, capsys) -> None:
    # The command's own order depends on the labels, and the fourth of it shall be black.
    _, spec = dark_checkpoint(tmp_path, black=())
    labels = load_data(spec, split="test").labels
    black = next(
        row
        for row in range(COUNT)
        if draw_order(np.where(np.arange(COUNT) == row, 0, labels), seed=0)[3] == row
    )
    dark_checkpoint(tmp_path, black=(black,))
    more = (
        "--count", "1,2", "--limit", "24", "--held-out", "14", "--attacked", "10", "--eps", "0.5",
        "--aggregate", "score,vote", "--views", "shift:pixels=1", "--attack", "every_view:steps=2",
        "--batch-size", "40", "--ensemble", str(tmp_path / "dark.safetensors"), "--draws", "2",
        "--quiet", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert robustcl(["multiview", *words(tmp_path, *more)]) == 0
    assert "warning: image 3 of the 24 test images has" in capsys.readouterr().err
    study = json.loads((tmp_path / "out/study.json").read_text())
    judged = np.load(tmp_path / "out/arrays/judged.npz")
    assert not judged["right"][:, 3].any() and not judged["stood"][:, 3].any()
    for model in study["models"].values():
        assert model["clean"]["abstained"] == 1
        assert model["clean"]["accuracy"] <= 23 / 24
        assert np.isfinite(model["clean"]["nll"])
        assert model.get("robust", 0.0) <= 0.9
    assert study["baseline"]["robust"] <= 0.9 and study["baseline"]["clean"]["abstained"] == 1
    assert (tmp_path / "out/report.html").exists()
