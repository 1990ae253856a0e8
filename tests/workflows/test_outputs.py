"""Commands write nothing outside --out, and leave what is not theirs as it was."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustcl.cli.main import certify, robustcl
from robustcl.core.locks import session_lock
from robustcl.core.output_folder import OutputFolder
from tests.cli.random_checkpoint import random_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    model, data = random_checkpoint(tmp_path_factory.mktemp("given"))
    return str(model), data


def tree(root: Path) -> dict[str, bytes]:
    found = {}
    for place in sorted(root.rglob("*")):
        name = place.relative_to(root).as_posix()
        if place.is_symlink():
            found[name] = os.fsencode(place.readlink())
        elif place.is_file():
            found[name] = place.read_bytes()
    return found


def commands(given: tuple[str, str], out: Path, copy: Path) -> list[tuple]:
    model, data = given
    common = ["--data", data, "--out", str(out)]
    runs = [str(GOLDEN / "runs" / "run"), str(copy)]
    return [
        (certify, ["run", model, *common]),
        (certify, ["run", model, *common, "--resume"]),
        (certify, ["demo", "--out", str(out)]),
        (robustcl, ["attack", model, *common]),
        (robustcl, ["multiview", model, *common]),
        (robustcl, ["bench", "quick", "--out", str(out)]),
        (robustcl, ["bench", "quick", "--out", str(out), "--resume"]),
        (robustcl, ["report", *runs, "--out", str(out)]),
    ]


@pytest.mark.parametrize("content", ["figures/photo.png", "report.html", "manifest.json", "a/b/c"])
def test_a_folder_of_somebody_else_is_refused(
    content: str, given: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(GOLDEN / "runs" / "run", tmp_path / "copy")
    out = tmp_path / "out"
    (out / content).parent.mkdir(parents=True)
    (out / content).write_text('{"name": "an app", "start_url": "."}')
    before = tree(out)
    for command, words in commands(given, out, tmp_path / "copy"):
        assert command(words) == 2, words
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert str(out) in said and ("give a" in said or "--out" in said), (words, said)
        assert tree(out) == before, words


def test_an_out_that_is_no_folder(
    given: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(GOLDEN / "runs" / "run", tmp_path / "copy")
    model = tmp_path / "model.safetensors"
    shutil.copy(given[0], model)
    before = tree(tmp_path)
    for out in (model, model / "inner"):  # the checkpoint itself, and a folder within it
        for command, words in commands((str(model), given[1]), out, tmp_path / "copy"):
            assert command(words) == 2, words
            assert "is a file; give another --out" in capsys.readouterr().err, words
    assert tree(tmp_path) == before


def test_links_in_a_run_are_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = tmp_path / "run", tmp_path / "photos"
    other.mkdir()
    (other / "sandwich.png").write_text("photograph")
    shutil.copytree(GOLDEN / "runs" / "run", run)
    for name in ("figures", "tables", "report.html", "summary.json", "robustbench.json"):
        target = other if name in ("figures", "tables") else other / "sandwich.png"
        (run / name).symlink_to(target)
        before = tree(other)
        assert robustcl(["report", str(run)]) == 2
        assert f"{name}', which is a link" in capsys.readouterr().err
        assert tree(other) == before == {"sandwich.png": b"photograph"}
        (run / name).unlink()


def test_a_report_leaves_pictures_of_others(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(GOLDEN / "runs" / "run", run)
    (run / "figures").mkdir()
    (run / "figures" / "holiday.png").write_text("photograph")
    (run / "report.html").write_text("of version 0.1")
    assert robustcl(["report", str(run)]) == 0
    assert (run / "figures" / "holiday.png").read_text() == "photograph"
    assert "<html" in (run / "report.html").read_text()
    first = tree(run)
    output = OutputFolder(run)
    output.write_text("figures/of-another-attack.png", "drawn by us once")
    (run / "tables" / "mine.csv").write_text("of the user")
    (run / "tables" / "methods.csv").unlink()
    assert robustcl(["report", str(run)]) == 0
    # What we drew once is gone, what the user put there stays, all else is equal to the byte.
    assert tree(run) == first | {"tables/mine.csv": b"of the user"}


def test_a_comparison_goes_into_its_own_folder_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, out = tmp_path / "one", tmp_path / "two", tmp_path / "out"
    for folder in (one, two):
        shutil.copytree(GOLDEN / "runs" / "run", folder)
    before = tree(one)
    for _ in range(2):
        assert robustcl(["report", str(one), str(two), "--out", str(out)]) == 0
    assert tree(one) == before
    capsys.readouterr()
    assert robustcl(["report", str(out)]) == 2
    assert "is a comparison" in capsys.readouterr().err
    assert robustcl(["report", str(one), str(out / ".." / "two"), "--out", str(one)]) == 2


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe", "foreign", "empty"])
@pytest.mark.parametrize("command", ["convert", "probe", "embed", "train"])
def test_overwrite_replaces_files_of_ours_only(
    command: str,
    kind: str,
    given: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, data = given
    out = tmp_path / ("x.npz" if command == "embed" else "x.safetensors")
    if kind in ("link", "dangling"):
        (tmp_path / "theirs").write_text("theirs")
        out.symlink_to(tmp_path / ("theirs" if kind == "link" else "nowhere"))
    elif kind == "folder":
        out.mkdir()
    elif kind == "pipe":
        os.mkfifo(out)
    else:
        out.write_bytes(b"of somebody else" if kind == "foreign" else b"")
    words = {
        "convert": [model, "--arch", "small_convnet"],
        "probe": [model, "--data", data],
        "embed": [model, "--data", data],
        "train": ["--data", data],
    }[command]
    before = tree(tmp_path)
    assert robustcl([command, *words, "--out", str(out), "--overwrite"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert out.name in said and any(
        text in said for text in ("is a link", "is a folder", "is a named pipe", "of robustcl")
    ), said
    assert tree(tmp_path) == before


def test_what_a_command_reads_it_does_not_replace(
    given: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.safetensors"
    shutil.copy(given[0], model)
    before = tree(tmp_path)
    words = ["convert", str(model), "--arch", "small_convnet", "--out", str(model), "--overwrite"]
    assert robustcl(words) == 2
    assert "is read by this command" in capsys.readouterr().err
    data = Path(given[1].removeprefix("npz:"))
    shutil.copy(data, tmp_path / "data.npz")
    words = ["embed", str(model), "--data", f"npz:{tmp_path / 'data.npz'}", "--overwrite"]
    assert robustcl([*words, "--out", str(tmp_path / "data.npz")]) == 2
    assert "no file of embeddings of robustcl" in capsys.readouterr().err
    (tmp_path / "data.npz").unlink()
    assert tree(tmp_path) == before


def test_embeddings_are_replaced_whole_and_with_ordinary_permissions(
    given: tuple[str, str], tmp_path: Path
) -> None:
    model, data = given
    out = tmp_path / "deep" / "e.npz"
    words = ["embed", model, "--data", data, "--out", str(out)]
    assert robustcl(words) == 0 and robustcl(words) == 2
    content = out.read_bytes()
    umask = os.umask(0)
    os.umask(umask)
    assert out.stat().st_mode & 0o777 == 0o666 & ~umask
    assert Path(model).stat().st_mode & 0o777 == 0o666 & ~umask
    assert robustcl([*words, "--overwrite"]) == 0
    assert out.read_bytes() == content and len(list(out.parent.iterdir())) == 1
    assert set(np.load(out)) == {"index", "embeddings", "norms", "labels", "class_names"}


def test_nothing_is_written_among_the_images(
    given: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    for label in ("a,b", "c"):
        (photos / label).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(photos / label / "1.png")
    (tmp_path / "link").symlink_to(photos)
    before = tree(tmp_path)
    for spec, out in (("photos", "photos/run"), ("photos,size=8,split=all", "link/c/run")):
        data = ["--data", f"imagefolder:{tmp_path / spec}"]
        for command, words, ending in (
            (certify, ["run", given[0]], ""),
            (robustcl, ["multiview", given[0]], ""),
            (robustcl, ["bench", "quick"], ""),
            (robustcl, ["train"], ".safetensors"),
            (robustcl, ["probe", given[0]], ".safetensors"),
            (robustcl, ["embed", given[0]], ".npz"),
        ):
            assert command([*words, *data, "--out", f"{tmp_path / out}{ending}"]) == 2
            assert "lies in the data folder" in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_a_second_session_is_told_which_process_is_at_work(
    given: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = given
    out = tmp_path / "run"
    with session_lock(out / ".session-0", "the run"):
        for command, words in (
            (certify, ["run", model, "--data", data, "--methods", "none", "--attack", "none"]),
            (robustcl, ["multiview", model, "--data", data]),
            (robustcl, ["bench", "quick"]),
        ):
            for more in ([], ["--resume"]):
                assert command([*words, "--out", str(out), *more]) == 2
                said = capsys.readouterr().err.strip().splitlines()[-1]
                assert f"is in use by process {os.getpid()} on" in said
    assert not out.exists()  # nothing came of it


NAMES = ["..", ".", "", "a/b", "/abs", "-x", ".hidden", "manifest.json", "Report.html", "figures"]
NAMES += ["peers", "x" * 300, "a b", "con", "a\\nb", "files.json", "cell.json"]


@pytest.mark.parametrize("name", NAMES)
def test_models_of_a_suite_name_no_path(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "s.toml"
    suite.write_text(
        f'question = "?"\nmetrics = ["clean_accuracy"]\n[models."{name}"]\ncheckpoint = "x"\n'
    )
    assert robustcl(["bench", str(suite), "--out", str(tmp_path / "out")]) == 2
    assert "cannot name a folder" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.toml"]


def test_models_and_data_of_a_suite_do_not_share_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "s.toml"
    model = '[models.{}]\ncheckpoint = "x"\n'
    for head, models, message in (
        ("", "aA", "differ in case only"),
        ('data = ["../../up:x"]\n', "a", "cannot name a folder"),
    ):
        text = f'question = "?"\nmetrics = ["clean_accuracy"]\n{head}'
        suite.write_text(text + "".join(model.format(name) for name in models))
        assert robustcl(["bench", str(suite), "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.toml"]
