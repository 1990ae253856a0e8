"""Code of the user builds a model on the user's word only, and once for a checkpoint."""

import json
from pathlib import Path

import pytest
import torch

from robustcl.cli.main import certify, robustcl
from robustcl.core.errors import CheckpointError, InputError
from robustcl.models.checkpoint import load_checkpoint
from robustcl.models.factory import approvals_file, find_factory
from robustcl.models.sources.opening import open_model
from robustcl.models.sources.request import ModelRequest

CODE = """
import torch
from torch import nn
from helper import WIDTH

def make(classes=10, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, classes))

def broken():
    raise ValueError("no such model")

def nothing():
    return 3
"""
SHAPE = ["--input-size", "1x8x8", "--mean", "none"]


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "net.py").write_text(CODE)
    (folder / "helper.py").write_text("WIDTH = 5\n")
    return folder / "net.py"


def weights(code: Path, place: Path, **arguments: int) -> Path:
    model = open_model(f"{code}:make", ModelRequest(arguments=arguments, image_shape=(1, 8, 8)))
    assert model.classifier is not None
    full = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5), torch.nn.ReLU(),
                               torch.nn.Linear(5, 10))  # fmt: skip
    torch.save(full.state_dict(), place)
    return place


def test_a_run_on_code_and_on_its_checkpoint(code: Path, tmp_path: Path, capsys) -> None:
    words = ["--data", "digits", "--limit", "4", "--methods", "product", "--attack", "none",
             "--quiet"]  # fmt: skip
    out = ["--out", str(tmp_path / "one")]
    assert certify(["run", f"{code}:make", *SHAPE, *words, *out]) == 0
    assert "head: 10 classes" in capsys.readouterr().err
    file = weights(code, tmp_path / "w.pth")
    made = tmp_path / "c.safetensors"
    given = ["convert", str(file), "--arch", f"{code}:make", "--head", "native", *SHAPE]
    assert robustcl([*given, "--out", str(made)]) == 0
    assert certify(["run", str(made), *words, "--out", str(tmp_path / "two")]) == 0
    known = json.loads(approvals_file().read_text())["approved"]
    assert [entry["file"] for entry in known.values()] == [str(code.resolve())]
    text = made.read_bytes()[: 2**16].decode(errors="replace")
    assert str(code.parent) not in text and "net.py:make" in text


def test_without_approval_no_code_is_run(code: Path, tmp_path: Path, monkeypatch) -> None:
    file, made = weights(code, tmp_path / "w.pth"), tmp_path / "c.safetensors"
    arguments = ["convert", str(file), "--arch", f"{code}:make", *SHAPE, "--out", str(made)]
    assert robustcl(arguments) == 0
    load_checkpoint(made)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another-user"))
    with pytest.raises(CheckpointError, match=r"not run on a file's word; add --arch PATH/net\.py"):
        load_checkpoint(made)
    load_checkpoint(made, arch=f"{code}:make")
    load_checkpoint(made)  # approved by the line above
    code.write_text(CODE + "\n# changed\n")
    with pytest.raises(CheckpointError, match="has changed since it was approved"):
        load_checkpoint(made)
    load_checkpoint(made, arch=f"{code}:make")
    code.unlink()
    with pytest.raises(CheckpointError, match="is gone"):
        load_checkpoint(made)


def test_an_approval_is_for_one_checkpoint(code: Path, tmp_path: Path) -> None:
    made = []
    for number in range(2):
        file = weights(code, tmp_path / f"{number}.pth")
        place = tmp_path / f"{number}.safetensors"
        arguments = ["convert", str(file), "--arch", f"{code}:make", *SHAPE, "--out", str(place)]
        assert robustcl(arguments) == 0
        made.append(place)
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(made[0].read_bytes())
    load_checkpoint(moved)
    content = json.loads(approvals_file().read_text())
    key = next(iter(content["approved"]))
    del content["approved"][key]
    approvals_file().write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="not run on a file's word"):
        load_checkpoint(made[0])
    load_checkpoint(made[1])


def test_a_damaged_file_of_approvals_is_named(code: Path, tmp_path: Path) -> None:
    file, made = weights(code, tmp_path / "w.pth"), tmp_path / "c.safetensors"
    assert (
        robustcl(["convert", str(file), "--arch", f"{code}:make", *SHAPE, "--out", str(made)]) == 0
    )
    for content in ("{", '{"approved": {"a": 3}}', "[]"):
        approvals_file().write_text(content)
        with pytest.raises(CheckpointError, match=r"approved\.json"):
            load_checkpoint(made)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net.py:broken", "ValueError: no such model"),
        ("net.py:nothing", "gives a int"),
        ("net.py:absent", "AttributeError"),
        ("gone.py:make", "there is no file"),
        ("no_such_module:make", "no such module"),
        ("net.py:", "write FILE.py:factory"),
    ],
)
def test_code_that_does_not_build_is_told_in_one_line(code: Path, name: str, words: str) -> None:
    text = str(code.parent / name) if ".py" in name else name
    with pytest.raises((InputError, CheckpointError), match=words) as caught:
        open_model(text, ModelRequest(image_shape=(1, 8, 8)))
    assert "\n" not in str(caught.value)


def test_a_module_of_this_folder_is_found(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(code.parent)
    (code.parent / "robustcl_own_nets.py").write_text(CODE)
    found = find_factory("robustcl_own_nets:make")
    assert found.module == "robustcl_own_nets" and found.file.endswith("robustcl_own_nets.py")
    assert open_model("robustcl_own_nets:make", ModelRequest(image_shape=(1, 8, 8))).classifier


def test_the_size_of_images_is_asked_for(code: Path) -> None:
    with pytest.raises(CheckpointError, match="state --input-size"):
        open_model(f"{code}:make")
