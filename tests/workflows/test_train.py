"""robustcl train: options, recipes, files and errors."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustcl.cli.main import robustcl
from robustcl.core.errors import InputError
from robustcl.models.checkpoint import load_checkpoint
from robustcl.options.train import TrainOptions
from robustcl.workflows.recipes import recipe_of

BASE = ["train", "--data", "digits", "--limit", "200", "--batch-size", "64", "--epochs", "2"]
BASE += ["--quiet", "--json"]


def options(**change) -> TrainOptions:
    return TrainOptions(data="digits", out=Path("a.safetensors"), **change)


def test_trains_with_few_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "model.safetensors"
    words = ["--loss", "simclr+suncet:temperature=.2,until=1", "--labels", "0.1"]
    assert robustcl([*BASE, *words, "--out", str(place)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == 20 and 0.1 < found["knn_accuracy"] <= 1.0
    rows = list(csv.DictReader(place.with_suffix(".csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert rows[0]["suncet"] and not rows[1]["suncet"]
    loaded = load_checkpoint(place)
    assert loaded.description.recipe["labels"] == 0.1 and loaded.description.head == "prototype"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["model.csv", "model.png", "model.safetensors"]


def test_a_recipe_file_gives_the_same_weights(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'loss = "supcon:temperature=.3"\nepochs = 9\nautocast = false\nlabels = 0.5\n'
    )
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    assert robustcl([*BASE, "--recipe", str(recipe), "--out", str(one)]) == 0
    words = ["--loss", "supcon:temperature=.3", "--labels", "0.5"]
    assert robustcl([*BASE, *words, "--out", str(two)]) == 0
    first, second = (load_checkpoint(place).encoder.state_dict() for place in (one, two))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_targets_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--loss", "simclr+semantic", "--out", str(tmp_path / "a.safetensors")]
    assert robustcl([*BASE, *words]) == 0
    found = json.loads(capsys.readouterr().out)["targets"]
    assert found["mean_cosine"] == pytest.approx(-1 / 9)
    assert found["caps"] == pytest.approx([np.sqrt(2 + 2 / 9) / 2] * 10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "unknown key 'epoch'"),
        ("loss = [1]", "loss is [1]: expected str, got list"),
        ("epochs = 2.5", "epochs is 2.5: expected int, got float"),
        ("epochs = true", "epochs is True: expected int, got bool"),
        ("labels = nan", "field labels is nan, no finite number"),
        ("seed = 1979-05-27", "field seed is a date"),
        ("epochs = {a = 1}", "expected int, got table"),
        ("label-seed = 1\nlabel_seed = 2", "'label_seed' comes twice"),
        ('loss = "--overwrite"', "unknown loss '__overwrite'"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("loss = ", "not a readable TOML"),
    ],
)
def test_bad_recipes(text: str, message: str, tmp_path: Path, capsys) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    words = ["--recipe", str(recipe), "--out", str(tmp_path / "a.safetensors")]
    assert robustcl([*BASE, *words]) == 2
    assert message in capsys.readouterr().err


def test_an_interrupted_run_is_not_overwritten(tmp_path: Path, capsys) -> None:
    place = tmp_path / "a.safetensors"
    place.with_suffix(".state.safetensors").write_bytes(b"")
    assert robustcl([*BASE, "--out", str(place)]) == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "0.01", "--loss", "supcon"], "less than one label"),
        (["--loss", "semantic", "--targets", "words:nowhere.txt"], "no file"),
        (["--loss", "semantic", "--targets", "taxonomy"], "the taxonomy has no 0"),
        (["--batch-size", "1"], "batch_size 1 gives no negatives"),
        (["--out", "model.pt"], "does not end in .safetensors"),
    ],
)
def test_bad_input(words: list[str], message: str, tmp_path: Path, capsys) -> None:
    assert robustcl([*BASE, "--out", str(tmp_path / "a.safetensors"), *words]) == 2
    assert message in capsys.readouterr().err


def test_images_that_cannot_be_used(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "photos"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(8):
            pixels = np.full((8, 8, 3), 10 * number, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    words = ["train", "--data", f"imagefolder:{folder},split=all", "--batch-size", "8", "--quiet"]
    words += ["--epochs", "1", "--out", str(tmp_path / "a.safetensors")]
    (folder / "cat" / "3.png").write_bytes(b"\x89PNG broken")
    assert robustcl([*words, "--strict"]) == 2
    assert "3.png cannot be decoded" in capsys.readouterr().err
    assert robustcl(words) == 0
    assert "1 image was left out that cannot be decoded: cat/3.png" in capsys.readouterr().err
    (folder / "cat" / "3.png").unlink()
    for path in (folder / "dog").iterdir():
        path.unlink()
    (folder / "dog").rmdir()
    words[-1] = str(tmp_path / "b.safetensors")
    assert robustcl([*words, "--loss", "supcon", "--batch-size", "4"]) == 2
    assert "one class only" in capsys.readouterr().err


def test_label_weight_goes_on_working() -> None:
    terms = recipe_of(options(label_weight=0.8, temperature=0.4)).terms
    assert [(t.name, t.temperature) for t in terms] == [("nt_xent", 0.4), ("sup_con", 0.1)]
    assert [t.weight for t in terms] == pytest.approx([0.2, 0.8])
    with pytest.raises(InputError, match="go with --loss simclr"):
        recipe_of(options(loss="supcon", label_weight=0.5))
    with pytest.raises(InputError, match="go with --loss simclr"):
        recipe_of(options(loss="supcon", temperature=0.2))
