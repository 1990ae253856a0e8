"""A training that is stopped at any point ends quietly with --resume, and only as what it was."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import robustcl.workflows.train as command
from robustcl.cli.main import robustcl
from robustcl.core.locks import session_lock
from robustcl.models.checkpoint import load_checkpoint
from robustcl.report.training_figure import is_training_figure
from robustcl.workflows.train_files import session_stem

BASE = ["train", "--data", "digits", "--limit", "150", "--batch-size", "64", "--epochs", "1"]
BASE += ["--measure-every", "0", "--quiet"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("whole") / "a.safetensors"
    assert robustcl([*BASE, "--out", str(place)]) == 0
    return place


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def same(one: Path, two: Path) -> bool:
    first, second = load_checkpoint(one), load_checkpoint(two)
    weights = (first.encoder.state_dict(), second.encoder.state_dict())
    equal = all(torch.equal(weights[1][name], value) for name, value in weights[0].items())
    return equal and first.description == second.description


def stop_at(name: str, patch: pytest.MonkeyPatch) -> None:
    # After the step of that name was done.
    step = getattr(command, name)

    def stopped(*arguments: object, **options: object) -> None:
        step(*arguments, **options)
        raise KeyboardInterrupt

    patch.setattr(command, name, stopped)


POINTS = ["fit_head", "save_checkpoint", "write_training_figure", "remove", "_tell"]


@pytest.mark.parametrize("point", POINTS)
def test_every_point_of_the_end(
    point: str,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "a.safetensors"
    with monkeypatch.context() as patch:
        if point == "write_training_figure":  # is imported when it is needed
            patch.setattr("robustcl.report.training_figure.training_figure", _interrupted)
        else:
            stop_at(point, patch)
        assert robustcl([*BASE, "--out", str(place)]) == 130
    assert "go on by the same command and --resume" in capsys.readouterr().err
    saved = place.read_bytes() if place.exists() else b""
    assert bool(saved) == (point != "fit_head")
    for _ in range(2):  # and once more when nothing is left to do
        assert robustcl([*BASE, "--out", str(place), "--resume", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["checkpoint"] == str(place) and said["labels"] == said["images"] == 150
        assert said["train_accuracy"] > 0.1 and said["seconds"] > 0.0
        assert names(tmp_path) == ["a.csv", "a.png", "a.safetensors"]
        assert is_training_figure(place.with_suffix(".png"))
    assert same(place, whole) and saved in (b"", place.read_bytes())


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_before_the_first_state_it_begins_anew(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "a.safetensors"
    shutil.copy(whole.with_suffix(".csv"), place.with_suffix(".csv"))
    assert robustcl([*BASE, "--out", str(place)]) == 2  # would replace a log unasked
    assert "a.csv' exists" in capsys.readouterr().err
    assert robustcl([*BASE, "--out", str(place), "--resume"]) == 0
    assert "begins anew" in capsys.readouterr().err
    assert same(place, whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--learning-rate", "0.01"], "its learning_rate is 0.002, not 0.01"),
        (["--seed", "1"], "its data_hash is|its seed is"),
        (["--limit", "149"], "its data_hash is"),
        (["--arch", "strided_convnet"], "its architecture is 'small_convnet'"),
        (["--labels", "0"], "its labels is 1.0, not 0.0"),
    ],
)
def test_a_checkpoint_of_another_training_is_not_taken_for_this_one(
    change: list[str],
    message: str,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "a.safetensors"
    for ending in (".safetensors", ".csv", ".png"):
        shutil.copy(whole.with_suffix(ending), place.with_suffix(ending))
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    assert robustcl([*BASE, "--out", str(place), "--resume", *change]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "is not of this training" in said and any(part in said for part in message.split("|"))
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_a_later_training_over_an_old_checkpoint_goes_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "a.safetensors"
    for ending in (".safetensors", ".csv", ".png"):
        shutil.copy(whole.with_suffix(ending), place.with_suffix(ending))
    with monkeypatch.context() as patch:
        stop_at("fit_head", patch)
        assert robustcl([*BASE, "--out", str(place), "--overwrite"]) == 130
    assert robustcl([*BASE, "--out", str(place), "--resume"]) == 2
    assert "began after it was written" in capsys.readouterr().err
    assert robustcl([*BASE, "--out", str(place), "--resume", "--overwrite"]) == 0
    assert same(place, whole) and names(tmp_path) == ["a.csv", "a.png", "a.safetensors"]


def test_a_teacher_is_taken_only_for_its_own_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "a.safetensors"
    words = [*BASE, "--robust", "deacl:steps=1", "--out", str(place)]
    with monkeypatch.context() as patch:  # the teacher is saved, its state still there
        stop_at("save_checkpoint", patch)
        assert robustcl(words) == 130
    assert names(tmp_path) == ["a.teacher.csv", "a.teacher.safetensors",
                               "a.teacher.state.safetensors"]  # fmt: skip
    teacher = place.with_suffix(".teacher.safetensors").read_bytes()
    assert robustcl(words) == 2  # would train it anew, and replace it unasked
    capsys.readouterr()
    assert robustcl([*words, "--resume", "--learning-rate", "0.1"]) == 2
    assert "is not the teacher of this training (its learning_rate" in capsys.readouterr().err
    assert robustcl([*words, "--resume"]) == 0
    assert place.with_suffix(".teacher.safetensors").read_bytes() == teacher
    assert names(tmp_path) == ["a.csv", "a.png", "a.safetensors", "a.teacher.csv",
                               "a.teacher.safetensors"]  # fmt: skip


@pytest.mark.parametrize("name", ["a.safetensors", "a.csv", "a.png", "a.state.safetensors"])
@pytest.mark.parametrize("kind", ["foreign", "link", "folder"])
def test_files_beside_the_checkpoint_stay_their_owners(
    name: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, odd = tmp_path / "a.safetensors", tmp_path / name
    (tmp_path / "theirs").write_text("name,age\nAda,36\n")
    if kind == "folder":
        odd.mkdir()
    elif kind == "link":
        odd.symlink_to(tmp_path / "theirs")
    elif name == "a.png":
        Image.new("RGB", (525, 383)).save(odd)
    else:
        odd.write_text("name,age\nAda,36\n")
    before = {n: (tmp_path / n).read_bytes() for n in names(tmp_path) if (tmp_path / n).is_file()}
    for more in ([], ["--overwrite"], ["--resume"]):
        assert robustcl([*BASE, "--out", str(place), *more]) == 2, more
        assert name in capsys.readouterr().err.strip().splitlines()[-1]
        after = {
            n: (tmp_path / n).read_bytes() for n in names(tmp_path) if (tmp_path / n).is_file()
        }
        assert after == before


def test_names_too_long_for_what_lies_beside_are_said_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / ("x" * 243 + ".safetensors")  # itself 255 bytes
    assert robustcl([*BASE, "--out", str(place)]) == 2
    assert "more than 255 bytes" in capsys.readouterr().err and not names(tmp_path)


def test_two_trainings_toward_one_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "a.safetensors"
    with session_lock(session_stem(place), "training"):
        for more in ([], ["--resume"]):
            assert robustcl([*BASE, "--out", str(place), *more]) == 2
            assert f"'{place}' is in use by process" in capsys.readouterr().err
    assert not names(tmp_path)


DAMAGED_LOGS = {
    "a word": b"epoch,steps,seconds,loss\n1,few,1,2\n",
    "columns": b"epoch,steps,seconds,loss\n1,1,1,2,3,4\n",
    "bytes": b"epoch,steps,seconds,loss\n1,1,1,\xff\xfe\n",
    "no number": b"epoch,steps,seconds,loss\n1,1,nan,inf\n",
    "no row": b"epoch,steps,seconds,loss\n",
    "long": b'epoch,steps,seconds,loss\n1,1,1,"' + b"a" * 200_000 + b'"\n',
}


def test_a_damaged_log_does_not_keep_a_training_from_its_end(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path(shutil.copy(whole, tmp_path / "a.safetensors"))
    for content in DAMAGED_LOGS.values():
        place.with_suffix(".csv").write_bytes(content)
        assert robustcl([*BASE, "--out", str(place), "--resume", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["checkpoint"] == str(place)
        assert said["seconds"] is None or said["seconds"] == 1.0  # never a number that is made up
        assert said["images_per_second"] in (None, 128.0, 64.0)
        assert place.with_suffix(".csv").read_bytes() == content


@pytest.mark.parametrize("target", ["nowhere", "a.state.safetensors", "elsewhere"])
def test_a_link_in_the_place_of_a_state_is_left_alone(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").write_bytes(b"mine")
    link = tmp_path / "a.state.safetensors"
    link.symlink_to(target)
    words = ["--out", str(tmp_path / "a.safetensors"), "--resume"]
    assert robustcl([*BASE, *words]) == 2
    assert "a.state.safetensors' is a link" in capsys.readouterr().err
    assert link.readlink() == Path(target) and (tmp_path / "elsewhere").read_bytes() == b"mine"
