"""The recipes of robust training, in miniature."""

import csv
from pathlib import Path

import pytest

from robustcl.cli.main import robustcl
from robustcl.models.checkpoint import load_checkpoint

RECIPES = Path(__file__).resolve().parents[2] / "benchmarks" / "recipes"
SMALL = ["--data", "digits", "--limit", "96", "--batch-size", "48", "--epochs", "1", "--quiet"]


@pytest.mark.parametrize("name", ["penalty", "penalty-cpu", "noise", "noise-cpu"])
def test_a_recipe_trains(name: str, tmp_path: Path) -> None:
    place = tmp_path / "model.safetensors"
    words = ["train", "--recipe", str(RECIPES / f"{name}.toml"), "--out", str(place), *SMALL]
    assert robustcl(words) == 0
    robust = load_checkpoint(place).description.recipe["robust"]
    assert robust.startswith(name.removesuffix("-cpu") + ":")
    row = next(csv.DictReader(place.with_suffix(".csv").open()))
    assert float(row["penalty" if name.startswith("penalty") else "consistency"]) > 0


def test_robust_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", *SMALL, "--out", str(tmp_path / "a.safetensors"), "--robust"]
    assert robustcl([*words, "penalty:weight=0"]) == 2
    assert "weight 0 of penalty" in capsys.readouterr().err
    assert robustcl([*words, "penalty:weight=.1,norm=linf,h=2/255"]) == 0
