"""Every command, on data that differs from the checkpoint in one way: right by name, or refused."""

import contextlib
import io
import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from robustcl import __version__
from robustcl.cli.main import certify, robustcl
from robustcl.core.classifier import Classifier, Encoder
from robustcl.data import Dataset
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint
from robustcl.models.description import Description
from robustcl.models.encoders import small_convnet
from robustcl.models.heads.fitting import fit_head
from tests.cli.data_sets import (
    CASES,
    COLORS,
    NAMES,
    OK,
    POSITIONS,
    REFUSED,
    UNLABELED,
    Case,
    Item,
    items,
)

# All pairs of a case and a command take minutes; a part of them, another for each command, does.
ALL = bool(os.environ.get("ROBUSTCL_ALL_DATA_SETS"))
ARGUMENTS = {"channels": 3, "image_size": 8, "width": 8, "embedding_size": 16}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model") / "model.safetensors"
    torch.manual_seed(0)
    encoder = Encoder(small_convnet(**ARGUMENTS), image_shape=(3, 8, 8))
    shown = items(wrong=False, seed=1)
    train = Dataset(
        "colors/train",
        np.stack([pixels for pixels, _ in shown]),
        np.array([NAMES.index(name) for _, name in shown]),
        NAMES,
    )
    classifier = fit_head(encoder, train)
    assert accuracy(classifier, shown) == 1.0
    held_out = {"probe": {"held_out": {"accuracy": 1.0}}}
    save_checkpoint(
        place,
        classifier,
        Description(
            architecture="small_convnet",
            arguments=dict(ARGUMENTS),
            image_shape=(3, 8, 8),
            embedding_size=16,
            recipe=held_out,
            version=__version__,
        ),
    )
    return place


def accuracy(classifier: Classifier, shown: list[Item]) -> float:
    """Judge by name, with nothing of the code under test but the model itself."""
    images = np.stack([pixels for pixels, _ in shown]).transpose(0, 3, 1, 2) / 255.0
    with torch.no_grad():
        guesses = classifier(torch.tensor(images, dtype=torch.float32)).argmax(dim=1).tolist()
    said = [classifier.class_names[k] for k in guesses]
    return float(np.mean([name == guess for (_, name), guess in zip(shown, said, strict=True)]))


class Said:
    """Hold what a command answered: exit code, stdout and stderr."""

    def __init__(self, program: Callable[[list[str]], int], *words: object) -> None:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            self.code = program([str(word) for word in words])
        self.out, self.err = out.getvalue(), err.getvalue()

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


def by_run(model: Path, spec: str, place: Path) -> tuple[Said, float | None]:
    words = ("--methods", "none", "--attack", "none", "--json", "--quiet")
    said = Said(certify, "run", model, "--data", spec, "--out", place / "run", *words)
    return said, json.loads(said.out)["clean_accuracy"] if not said.code else None


def by_attack(model: Path, spec: str, place: Path) -> tuple[Said, float | None]:
    words = ("--protocol", "fast", "--eps", ".01", "--json", "--quiet")
    said = Said(robustcl, "attack", model, "--data", spec, "--out", place / "attack", *words)
    return said, json.loads(said.out)["clean_accuracy"] if not said.code else None


def by_multiview(model: Path, spec: str, place: Path) -> tuple[Said, float | None]:
    words = ("--count", "2", "--aggregate", "score", "--held-out", "6", "--attacked", "1")
    more = ("--attack", "pgd:steps=1,restarts=1", "--no-certificates", "--json", "--quiet")
    out = place / "study"
    said = Said(robustcl, "multiview", model, "--data", spec, "--out", out, *words, *more)
    if said.code:
        return said, None
    study = json.loads((out / "study.json").read_text(encoding="utf-8"))
    return said, study["models"]["single view"]["clean"]["accuracy"]


def by_bench(model: Path, spec: str, place: Path) -> tuple[Said, float | None]:
    suite = place / "suite.toml"
    suite.write_text(
        f'question = "Is it right?"\ndata = [{json.dumps(spec)}]\nmetrics = ["clean_accuracy"]\n'
        f"[models.colors]\ncheckpoint = {json.dumps(str(model))}\n"
    )
    out = place / "bench"
    said = Said(robustcl, "bench", suite, "--out", out, "--json", "--quiet")
    if said.code:
        said.err += "".join(f"error: {why}\n" for why in json.loads(said.out)["reasons"].values())
        said.code = 2 if said.code == 4 else said.code
        return said, None
    (cell,) = out.rglob("l2/cell.json")
    return said, json.loads(cell.read_text(encoding="utf-8"))["metrics"]["clean_accuracy"]


def by_embed(model: Path, spec: str, place: Path) -> tuple[Said, float | None]:
    out = place / "embeddings.npz"
    said = Said(robustcl, "embed", model, "--data", spec, "--out", out)
    if said.code:
        return said, None
    found, head = np.load(out), load_checkpoint(model).classifier
    assert head is not None
    if (found["labels"] < 0).all():
        return said, None
    weight = head.head.weight.numpy()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    guesses = [NAMES[k] for k in (found["embeddings"] @ weight.T).argmax(axis=1)]
    names = [unicodedata.normalize("NFC", name) for name in found["class_names"].tolist()]
    if not names or all(name.isdecimal() for name in names):  # by position
        names = [*NAMES, "beyond"]
    return said, float(np.mean([names[k] == g for k, g in zip(found["labels"], guesses)]))  # noqa: B905


COMMANDS = {
    "run": by_run,
    "attack": by_attack,
    "multiview": by_multiview,
    "bench": by_bench,
    "embed": by_embed,
}
# Of few images, multiview tests all but those held out: some wrong ones may be among the latter.
SLACK = {"multiview": 7}
PAIRS = [
    pytest.param(case, command, id=f"{case.name}-{command}")
    for number, case in enumerate(CASES)
    for place, command in enumerate(COMMANDS)
    if ALL or command in ("run", "embed") or number % 6 == place
]


@pytest.mark.parametrize(("case", "command"), PAIRS)
def test_right_by_name_or_refused(
    case: Case, command: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_checkpoint(checkpoint).classifier
    assert model is not None
    spec = case.build(tmp_path, monkeypatch)
    said, found = COMMANDS[command](checkpoint, spec, tmp_path)
    if command == "embed" and case.expected == REFUSED and not said.code:
        return  # classes that the checkpoint lacks are embedded, by their own names
    if command == "multiview" and any("has no image among" in line for line in said.errors):
        assert said.code == 2 and len(said.errors) == 1
        return  # its held-out images need every class
    if case.expected == REFUSED or (case.expected == UNLABELED and said.code):
        assert case.expected == REFUSED or command in ("multiview", "bench")
        assert said.code == case.code
        assert len(said.errors) == 1 and len(said.errors[0]) < 600
        return
    assert said.code == 0, said.err
    if case.expected == UNLABELED:
        assert found is None
        return
    if case.expected == POSITIONS and command in ("run", "attack", "multiview"):
        assert "taken as positions" in said.err
    assert case.expected in (OK, POSITIONS)
    assert found is not None
    truth = accuracy(model, case.truth)
    assert abs(found - truth) <= SLACK.get(command, 1) / len(case.truth) + 1e-9
    if command == "run":
        assert f"clean accuracy: {100 * truth:.1f} %" in said.err


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_probe_names_its_classes_as_the_data_does(
    case: Case, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, out = case.build(tmp_path, monkeypatch), tmp_path / "probed.safetensors"
    said = Said(robustcl, "probe", checkpoint, "--data", spec, "--out", out, "--quiet")
    if said.code:
        assert said.code == case.code and len(said.errors) == 1 and not out.exists()
        return
    model = load_checkpoint(out).classifier
    assert model is not None
    back = {value: name for name, value in case.called.items()}
    known = [n for n in model.class_names if back.get(n, n) in COLORS]
    if not known or len(set(model.class_names)) < len(model.class_names):
        return  # no names of its own, or one twice: later commands take or refuse these by number
    shown = [(pixels, n) for n in known for pixels, _ in items((back.get(n, n),), wrong=False)]
    assert accuracy(model, shown) > 0.9


def test_labels_that_are_shifted_unseen_are_warned_about(checkpoint: Path, tmp_path: Path) -> None:
    # Nobody can see that nameless labels are in another order; that nothing is right can be seen.
    shown = items()
    labels = [(NAMES.index(name) + 1) % 6 for _, name in shown]
    np.savez(tmp_path / "test.npz", images=np.stack([p for p, _ in shown]), labels=labels)
    said, found = by_run(checkpoint, f"npz:{tmp_path}", tmp_path)
    assert said.code == 0 and found is not None and found < 0.2
    assert "warning: the accuracy" in said.err and "near chance (16.7%)" in said.err
    assert "the head had 100.0%" in said.err
