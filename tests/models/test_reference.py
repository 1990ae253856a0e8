"""What is known of a model is compared with what was loaded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import robustcl
from robustcl.cli.main import certify
from robustcl.cli.main import robustcl as command
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.models.reference import Reference, accuracy_among, compare_logits, read_reference
from robustcl.records.reading import read_manifest


@pytest.mark.parametrize(
    ("figures", "wanted"),
    [
        ({"best_prec1": 91.78, "epoch": 180.0}, Reference("best_prec1", 0.9178)),
        ({"acc": 0.7}, Reference("acc", 0.7)),
        ({"best_acc": 93.2, "acc": 93.0}, Reference("best_acc", 0.932)),
        ({"test_accuracy": 55.0}, Reference("test_accuracy", 0.55)),
        ({"best_acc1": 76.1}, Reference("best_acc1", 0.761)),
        ({"top5": 93.0, "best_loss": 0.3, "epoch": 10.0}, None),
        ({"best_epoch": 40.0, "best": 3.0}, None),
        ({"acc": 91.0, "test_acc": 80.0}, None),
        ({"acc": 0.0}, None),
        ({"accelerator": 1.0, "precision_plugin": 16.0, "precision": 16.0}, None),
        ({}, None),
    ],
)
def test_an_accuracy_is_found_among_figures(figures: dict, wanted: Reference | None) -> None:
    found = accuracy_among(figures)
    if wanted is None:
        assert found is None
    else:
        assert found is not None and found.name == wanted.name
        assert found.accuracy == pytest.approx(wanted.accuracy)


@pytest.mark.parametrize("text", ["0", "1.5", "-1", "nan", "inf", "", "x", "101%", "none.np"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--reference"):
        read_reference(text)
    known = read_reference("91.78%")
    assert isinstance(known, Reference) and known.accuracy == pytest.approx(0.9178)


def model() -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    return Classifier.from_scores(network, image_shape=(3, 4, 4)).eval()


@pytest.mark.parametrize("kind", ["float", "uint8", "channels last"])
def test_logits_of_a_file(kind: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (5, 3, 4, 4), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        logits = model()(pixels.float() / 255).numpy()
    images = pixels.numpy() if kind == "uint8" else (pixels.float() / 255).numpy()
    if kind == "channels last":
        images = images.transpose(0, 2, 3, 1)
    place = tmp_path / "known.npz"
    np.savez(place, images=images, logits=logits)
    known = read_reference(str(place))
    assert not isinstance(known, Reference)
    assert "5 with the same class" in compare_logits(model(), *known)
    with pytest.raises(InputError, match=r"differ from the reference by .*not loaded as it was"):
        compare_logits(model(), known[0], known[1] * 1.01 + 0.01)
    with pytest.raises(InputError, match=r"shape \(5, 2\)"):
        compare_logits(model(), known[0], known[1][:, :2])
    with pytest.raises(InputError, match="the model takes"):
        compare_logits(model(), known[0][..., :3], known[1])


def test_files_that_are_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", pictures=np.zeros(3))
    np.savez(tmp_path / "short.npz", images=np.zeros((2, 1, 4, 4)), logits=np.zeros((3, 2)))
    for name, text in (("other", "needs images and logits"), ("short", r"\(N, C, H, W\)")):
        with pytest.raises(InputError, match=text):
            read_reference(str(tmp_path / f"{name}.npz"))
    with pytest.raises(InputError):
        read_reference(str(tmp_path / "absent.npz"))


def weights(place: Path, accuracy: float) -> tuple[Path, Path]:
    # A stack of two layers with the accuracy it has, or another, beside its weights; and images.
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    torch.save({"state_dict": network.state_dict(), "best_acc": accuracy}, place / "net.pth")
    images = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = network(images).argmax(1).numpy()
    labels[:6] = (labels[:6] + 1) % 3  # nine tenths are right
    np.savez(place / "test.npz", images=images.numpy().transpose(0, 2, 3, 1), labels=labels)
    return place / "net.pth", place / "test.npz"


@pytest.mark.parametrize(("stated", "agrees"), [(90.0, True), (99.9, False)])
def test_a_run_says_whether_it_agrees(stated: float, agrees: bool, tmp_path: Path, capsys) -> None:
    file, data = weights(tmp_path, stated)
    words = ["run", str(file), "--arch", "stack:relu", "--input-size", "1x4x4", "--mean", "none"]
    words += ["--data", f"npz:{data}", "--methods", "none", "--attack", "none", "--quiet"]
    words += ["--classes", "positions"]
    assert certify([*words, "--out", str(tmp_path / "run")]) == 0
    said = "".join(capsys.readouterr())
    assert ("agrees with what is known" in said) == agrees
    assert ("warning: the clean accuracy" in said) != agrees
    assert read_manifest(tmp_path / "run")["reference"]["accuracy"] == pytest.approx(stated / 100)
    page = (tmp_path / "run" / "report.html").read_text()
    assert ("is not what is known of the model" in page) != agrees
    assert command(["report", str(tmp_path / "run")]) == 0
    assert ("agrees with what is known" in "".join(capsys.readouterr())) == agrees
    again = [*words, "--reference", "0.9", "--out", str(tmp_path / "user")]
    assert certify(again) == 0
    assert "the reference (the user) is 90.0 %" in "".join(capsys.readouterr())


def test_logits_stop_a_command_before_it_measures(tmp_path: Path, capsys) -> None:
    file, data = weights(tmp_path, 90.0)
    arrays = np.load(data)
    np.savez(tmp_path / "bad.npz", images=arrays["images"][:4], logits=np.ones((4, 3)))
    words = [str(file), "--arch", "stack:relu", "--input-size", "1x4x4", "--mean", "none"]
    known = ["--reference", str(tmp_path / "bad.npz")]
    out = ["--data", f"npz:{data}", "--out", str(tmp_path / "run")]
    assert certify(["run", *words, *known, *out, "--classes", "positions"]) == 2
    assert "not loaded as it was" in capsys.readouterr().err
    assert not (tmp_path / "run" / "records-0.jsonl").exists()
    made = tmp_path / "made.safetensors"
    assert command(["convert", *words, "--head", "native", *known, "--out", str(made)]) == 2
    assert "not loaded as it was" in capsys.readouterr().err and not made.exists()
    assert command(["convert", *words, "--head", "native", "--out", str(made)]) == 0


def test_a_reference_in_python() -> None:
    images = torch.rand(12, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        labels = model()(images).argmax(1)
    quick: dict[str, Any] = {"methods": "", "attacks": ""}
    robustcl.audit(model(), (images, labels), reference=model(), **quick)
    other = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    with pytest.raises(InputError, match="not loaded as it was"):
        robustcl.audit(model(), (images, labels), reference=other, **quick)
    found = robustcl.audit(model(), (images, labels), reference=0.5, **quick)
    assert "is not what is known of the model" in found.report().read_text()
