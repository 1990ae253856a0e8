"""robustcl probe: heads from any share of labels, on an encoder that stays as it is."""

import json
from pathlib import Path

import pytest
import torch

from robustcl.cli.main import certify, robustcl
from robustcl.models.checkpoint import load_checkpoint
from robustcl.records.reading import load_run
from tests.cli.random_checkpoint import random_checkpoint

DATA = ["--data", "digits", "--limit", "400"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("probe") / "model.safetensors"
    words = ["train", *DATA, "--epochs", "4", "--quiet", "--measure-every", "0"]
    assert robustcl([*words, "--batch-size", "64", "--out", str(place)]) == 0
    return place


def weights(place: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(place).encoder.state_dict()


@pytest.mark.parametrize("head", ["prototype", "linear", "knn", "fine_tune"])
@pytest.mark.parametrize("labels", [0.1, 1.0])
def test_heads(head: str, labels: float, checkpoint: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "probed.safetensors"
    words = ["probe", str(checkpoint), *DATA, "--head", head, "--labels", str(labels), "--json"]
    assert robustcl([*words, "--epochs", "4", "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == 400 * labels
    before, after = weights(checkpoint), weights(out)
    same = all(torch.equal(before[name], after[name]) for name in before)
    assert same == found["encoder_frozen"] == (head != "fine_tune")
    held = found["held_out"]
    assert held["images"] == pytest.approx(80 * labels, abs=12)
    assert held["accuracy"] > (0.4 if labels == 0.1 else 0.75)
    assert (held["temperature"] is None) == (head == "knn")
    loaded = load_checkpoint(out)
    assert loaded.description.head == ("linear" if head == "fine_tune" else head)
    assert loaded.description.recipe["probe"]["labels"] == found["labels"]


@pytest.mark.parametrize("protocol", ["slf", "alf", "aff"])
def test_protocols(protocol: str, checkpoint: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "probed.safetensors"
    words = ["probe", str(checkpoint), *DATA, "--protocol", protocol, "--json", "--quiet"]
    words += ["--steps", "2", "--eps", "4/255", "--epochs", "6", "--batch-size", "50"]
    assert robustcl([*words, "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    before, after = weights(checkpoint), weights(out)
    same = all(torch.equal(before[name], after[name]) for name in before)
    assert same == found["encoder_frozen"] == (protocol != "aff")
    assert found["train_accuracy"] > 0.5 and found["held_out"] is None
    loaded = load_checkpoint(out)
    stated = loaded.description.recipe["probe"]
    assert loaded.description.head == "linear" and stated["epochs"] == 6
    assert stated.get("eps") == (None if protocol == "slf" else 4 / 255)
    assert stated["learning_rate"] == {"slf": 0.1, "alf": 0.01, "aff": 0.1}[protocol]


def test_fine_tuning_fits_the_labels_better(checkpoint: Path, tmp_path: Path, capsys) -> None:
    accuracy = {}
    for head in ("prototype", "fine_tune"):
        words = ["probe", str(checkpoint), *DATA, "--head", head, "--json", "--epochs", "20"]
        words += ["--learning-rate", "3e-3", "--out", str(tmp_path / f"{head}.safetensors")]
        assert robustcl(words) == 0
        accuracy[head] = json.loads(capsys.readouterr().out)["held_out"]["accuracy"]
    assert accuracy["fine_tune"] > accuracy["prototype"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "0"], "needs labels"),
        (["--labels", "0.01"], "less than one label"),
        (["--head", "fine_tune", "--epochs", "0"], "0 epochs"),
        (["--protocol", "slf", "--head", "knn"], "--head knn with --protocol slf"),
        (["--protocol", "alf", "--eps", "0"], "eps 0"),
        (["--protocol", "aff", "--epochs", "0"], "epochs 0"),
    ],
)
def test_bad_input(words: list[str], message: str, checkpoint: Path, tmp_path, capsys) -> None:
    base = ["probe", str(checkpoint), *DATA, "--out", str(tmp_path / "a.safetensors")]
    assert robustcl([*base, *words]) == 2
    assert message in capsys.readouterr().err


def test_one_label_per_class_has_no_held_out(checkpoint: Path, tmp_path: Path, capsys) -> None:
    base = ["probe", str(checkpoint), *DATA, "--out", str(tmp_path / "a.safetensors"), "--json"]
    assert robustcl([*base, "--labels", "0.025"]) == 0
    assert json.loads(capsys.readouterr().out)["held_out"] is None


@pytest.mark.parametrize("kind", ["prototype", "linear", "knn"])
def test_a_run_fits_the_head_that_probe_fits(kind: str, tmp_path: Path, capsys) -> None:
    checkpoint, data = random_checkpoint(tmp_path)
    words = ["--data", data, "--methods", "none", "--attack", "none", "--quiet", "--json"]
    made = tmp_path / "made.safetensors"
    fit = ["probe", str(checkpoint), "--data", data, "--head", kind, "--out", str(made)]
    assert robustcl(fit) == 0
    capsys.readouterr()
    assert certify(["run", str(made), *words, "--out", str(tmp_path / "two")]) == 0
    wanted = json.loads(capsys.readouterr().out)
    one = ["run", str(checkpoint), *words, "--head", kind, "--out", str(tmp_path / "one")]
    assert certify(one) == 0
    out, said = capsys.readouterr()
    assert json.loads(out)["clean_accuracy"] == wanted["clean_accuracy"]
    assert f"head: {kind}, fitted on" in said
    margins = [load_run(tmp_path / name).clean["margin"].tolist() for name in ("one", "two")]
    assert margins[0] == pytest.approx(margins[1], rel=1e-4)  # threads add in another order
    assert certify([*one, "--resume"]) == 2
    assert "may differ by rounding" in capsys.readouterr().err
    assert certify(["run", str(checkpoint), *words, "--head", "lineal", "--out", str(made)]) == 2
    assert "use native, prototype, linear" in capsys.readouterr().err
