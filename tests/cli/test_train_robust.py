"""robustcl train --robust: what is kept, what goes on, what is refused."""

import csv
import dataclasses
from pathlib import Path

import pytest
import torch

import robustcl.training.train_step as step_module
from robustcl.cli.main import robustcl
from robustcl.core.errors import CheckpointError
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint

BASE = ["train", "--data", "digits", "--limit", "200", "--batch-size", "64", "--epochs", "2"]
BASE += ["--quiet", "--measure-every", "0"]


def tensors(place: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(place).encoder.state_dict()


@pytest.mark.parametrize("robust", ["acl:eps=4/255,steps=1", "dynacl:attack=free", "rocl:steps=1"])
def test_trains_and_states_its_branch(robust: str, tmp_path: Path) -> None:
    place = tmp_path / "model.safetensors"
    assert robustcl([*BASE, "--robust", robust, "--out", str(place)]) == 0
    recipe = load_checkpoint(place).description.recipe
    assert recipe["robust"] == robust
    assert recipe.get("batch_norm") == (None if robust.startswith("rocl") else "adversarial")
    rows = list(csv.DictReader(place.with_suffix(".csv").open()))
    assert all(float(row["adversarial"]) > 0.0 for row in rows)


def test_a_checkpoint_of_acl_without_its_branch_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "model.safetensors"
    assert robustcl([*BASE, "--robust", "acl:steps=1", "--out", str(place)]) == 0
    loaded = load_checkpoint(place)
    assert loaded.classifier is not None
    for kept in (None, "pgd"):
        recipe = {**loaded.description.recipe, "batch_norm": kept}
        other = tmp_path / "other.safetensors"
        save_checkpoint(
            other, loaded.classifier, dataclasses.replace(loaded.description, recipe=recipe)
        )
        with pytest.raises(CheckpointError, match=f"states batch_norm {kept!r}"):
            load_checkpoint(other)


def test_deacl_trains_its_teacher_and_takes_a_given_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    words = [*BASE, "--projector", "16"]  # of the teacher
    assert robustcl([*words, "--robust", "deacl:steps=1", "--out", str(one)]) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["one.csv", "one.png", "one.safetensors", "one.teacher.csv",
                     "one.teacher.safetensors"]  # fmt: skip
    teacher = one.with_suffix(".teacher.safetensors")
    plain = tmp_path / "plain.safetensors"
    assert robustcl([*words, "--out", str(plain)]) == 0
    assert all(torch.equal(tensors(teacher)[name], value) for name, value in tensors(plain).items())
    robust = f"deacl:steps=1,teacher={teacher}"
    assert robustcl([*words, "--robust", robust, "--out", str(two)]) == 0
    assert all(torch.equal(tensors(one)[name], value) for name, value in tensors(two).items())
    assert not torch.equal(*(tensors(place)["backbone.0.weight"] for place in (one, teacher)))


@pytest.mark.parametrize("cut", [1, 4, 7, 9])
def test_a_killed_deacl_goes_on(cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Three steps an epoch and two epochs, for the teacher first and for the student then.
    whole, place = tmp_path / "whole.safetensors", tmp_path / "model.safetensors"
    words = [*BASE, "--robust", "deacl:steps=1", "--save-every", "1"]
    assert robustcl([*words, "--out", str(whole)]) == 0
    kept, calls = step_module._loss, []

    def dying(*arguments):
        calls.append(1)
        if len(calls) > cut:
            raise KeyboardInterrupt
        return kept(*arguments)

    monkeypatch.setattr(step_module, "_loss", dying)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        raise SystemExit(robustcl([*words, "--out", str(place)]))
    assert not place.exists()
    monkeypatch.setattr(step_module, "_loss", kept)
    assert robustcl([*words, "--out", str(place), "--resume"]) == 0
    assert all(torch.equal(tensors(whole)[name], value) for name, value in tensors(place).items())
    assert not list(tmp_path.glob("*.state.safetensors"))


@pytest.mark.parametrize(
    ("robust", "message"),
    [
        ("acl:eps=0", "eps 0"),
        ("dynacl:period=5", "longer than training"),
        ("acl:speed=2", "acl has no option 'speed'"),
        ("deacl:teacher=nowhere.safetensors", "no checkpoint 'nowhere.safetensors'"),
    ],
)
def test_bad_input(robust: str, message: str, tmp_path: Path, capsys) -> None:
    place = tmp_path / "model.safetensors"
    assert robustcl([*BASE, "--robust", robust, "--out", str(place)]) == 2
    assert message in capsys.readouterr().err and not place.exists()
