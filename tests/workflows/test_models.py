"""What a checkpoint claims of its constant is shown beside what is computed, or refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from robustcl.cli.main import certify, robustcl
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint

TRAIN = ["train", "--data", "digits", "--limit", "300", "--batch-size", "64", "--epochs", "1"]
TRAIN += ["--robust", "lipschitz", "--arch", "lipschitz_convnet", "--optimizer", "muon", "--quiet"]
TRAIN += ["--loss", "batch_prototypes:margin=.5", "--learning-rate", ".02", "--json"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("claimed") / "model.safetensors"
    assert robustcl([*TRAIN, "--out", str(place)]) == 0
    return place


def test_both_constants_are_shown(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert robustcl(["inspect", str(trained), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["lipschitz_constant"] == 1.0
    assert 0.999 < found["computed_constant"] <= 1.0
    assert robustcl(["inspect", str(trained)]) == 0
    assert "claimed 1, computed" in "".join(capsys.readouterr())


@pytest.mark.parametrize("change", ["claim", "weights"])
def test_a_claim_below_the_bound_is_refused(
    change: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load_checkpoint(trained)
    assert loaded.classifier is not None
    description = loaded.description
    if change == "claim":
        description = replace(description, lipschitz_constant=0.9)
    else:
        weight = next(loaded.encoder.backbone.parameters())
        weight.data.mul_(1.001)
    wrong = tmp_path / "wrong.safetensors"
    save_checkpoint(wrong, loaded.classifier, description)
    assert robustcl(["inspect", str(wrong)]) != 0
    assert "claims a Lipschitz constant" in capsys.readouterr().err
    run = ["run", str(wrong), "--data", "digits", "--limit", "4", "--out", str(tmp_path / "out")]
    assert certify([*run, "--methods", "product", "--attack", "none"]) != 0
    assert "claims a Lipschitz constant" in capsys.readouterr().err


def test_a_sound_claim_is_certified(trained: Path, tmp_path: Path) -> None:
    run = ["run", str(trained), "--data", "digits", "--limit", "8", "--out", str(tmp_path / "out")]
    assert (
        certify([
            *run,
            "--methods",
            "product",
            "--attack",
            "none",
            "--no-test-certificates",
            "--quiet",
        ])
        == 0
    )
