"""robustcl multiview: a whole study at tiny size, resumed, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robustcl.cli.main import robustcl
from robustcl.core.errors import RunError
from robustcl.records.reading import read_manifest
from robustcl.records.study_file import read_study
from robustcl.report.study_page import sentences
from tests.cli.random_checkpoint import random_checkpoint


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multiview")
    random_checkpoint(folder, count=80)
    stored = dict(np.load(folder / "data.npz"))
    stored["labels"][::4], stored["labels"][1::4] = 0, 2  # it predicts one class nearly always
    np.savez(folder / "data.npz", **stored)
    return folder


def command(place: Path, out: Path, *more: str) -> list[str]:
    options = {
        "--data": f"npz:{place / 'data.npz'},split=all", "--count": "1,3", "--limit": "40",
        "--held-out": "30", "--attacked": "10", "--batch-size": "40", "--eps": "0.5",
        "--aggregate": "score,vote", "--views": "shift:pixels=1", "--attack": "every_view:steps=5",
    }  # fmt: skip
    options |= dict(zip(more[::2], more[1::2], strict=True))
    words = [word for pair in options.items() for word in pair]
    return ["multiview", str(place / "model.safetensors"), "--out", str(out), "--quiet", *words]


@pytest.fixture(scope="module")
def study(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    words = command(place, out, "--ensemble", str(place / "model.safetensors"))
    assert robustcl(words) == 0
    return out


def test_a_study_says_what_it_measured(study: Path) -> None:
    found = json.loads((study / "study.json").read_text())
    assert set(found["models"]) == {
        "single view", "score of 1", "score of 3", "vote of 1", "vote of 3"
    }  # fmt: skip
    single = found["models"]["single view"]
    same = found["models"]["score of 1"]
    # One view is the image itself, and so is a network that is alone in an ensemble.
    for other in (same["clean"], found["baseline"]["clean"]):
        assert other["nll"] == pytest.approx(single["clean"]["nll"], abs=1e-5)
        assert other["accuracy"] == single["clean"]["accuracy"]
    compared = found["comparisons"]["score of 1"]
    assert compared["corrections"] == compared["corruptions"] == 0
    assert compared["nll"]["value"] == pytest.approx(0.0, abs=1e-5)
    for name, model in found["models"].items():
        if "robust" not in model:
            continue
        assert all(model["robust"] <= rate for rate in model["robust_by_source"].values())
        assert model["certified"] <= model["robust"]
        if name != "single view":
            compared = found["comparisons"][name]
            gap = model["robust"] - single["robust"]
            assert compared["adaptive_gain"]["value"] == pytest.approx(gap)
            counts = compared["corrections"] - compared["corruptions"]
            assert compared["accuracy"]["value"] == pytest.approx(counts / 40)
            per_class = found["per_class"][name]
            assert sum(row["corrected"] for row in per_class) == compared["corrections"]
    page = (study / "report.html").read_text()
    assert page.count('class="lead"') == 3
    assert "Accuracy:" in page and "Robustness at L2 0.5" in page and "Calibration:" in page
    assert len(list((study / "figures").glob("*.png"))) == 4


def test_fresh_views_of_one_view_are_the_single_view(place: Path, tmp_path: Path) -> None:
    # The first view is the image itself, in every draw.
    words = command(place, tmp_path / "one", "--count", "1", "--aggregate", "score", "--draws", "2")
    assert robustcl([*words, "--no-certificates"]) == 0
    found = json.loads((tmp_path / "one/study.json").read_text())
    fresh, single = found["fresh"], found["models"]["single view"]
    assert fresh["name"] == "score of 1, fresh"
    for source, share in single["robust_by_source"].items():
        assert fresh["robust_by_source"][source] == share
    assert fresh["transfer_gain"]["value"] == fresh["transfer_gain"]["high"] == 0.0
    assert fresh["robust"] <= min(fresh["robust_by_source"].values()) <= fresh["clean"]
    assert "drawn anew at every call" in (tmp_path / "one/report.html").read_text()


def test_what_is_lost_is_computed_again_and_other_options_are_refused(
    place: Path, study: Path, tmp_path: Path
) -> None:
    shutil.copytree(study, tmp_path / "cut")
    for name in ("study.json", "arrays/attacked-vote-of-3.npz", "arrays/outputs-clean.npz"):
        (tmp_path / "cut" / name).unlink()
    ensemble = ("--ensemble", str(place / "model.safetensors"))
    words = command(place, tmp_path / "cut", *ensemble)
    assert robustcl(words) == 2
    assert robustcl([*words, "--resume"]) == 0
    first, second = ((folder / "study.json").read_text() for folder in (study, tmp_path / "cut"))
    assert json.loads(first) == json.loads(second)
    assert robustcl([*command(place, tmp_path / "cut", "--eps", "0.25"), "--resume"]) == 2
    assert robustcl(["report", str(tmp_path / "cut")]) == 0


def flip(folder: Path) -> None:
    place = folder / "arrays/outputs-clean.npz"
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(bytes(content))


def swap(folder: Path) -> None:
    # Two stages of one shape: without a name in them nothing would tell.
    names = ("arrays/outputs-at-score-of-3.npz", "arrays/outputs-at-vote-of-3.npz")
    first, second = (folder / name for name in names)
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def truncate(folder: Path) -> None:
    (folder / "arrays/attacked-vote-of-3.npz").write_bytes(b"PK")


@pytest.mark.parametrize("change", [flip, swap, truncate])
def test_damaged_stages_are_named_and_computed_again(
    place: Path, study: Path, tmp_path: Path, change: Callable[[Path], None], capsys
) -> None:
    folder = Path(shutil.copytree(study, tmp_path / "cut"))
    change(folder)
    ensemble = ("--ensemble", str(place / "model.safetensors"))
    assert robustcl([*command(place, folder, *ensemble), "--resume"]) == 0
    assert "it is computed again" in capsys.readouterr().err
    first, second = (json.loads((f / "study.json").read_text()) for f in (study, folder))
    assert first == second
    first, second = read_manifest(folder)["sessions"]
    assert len(first["stages"]) > 5 and 1 <= len(second["stages"]) <= 2


def test_a_stage_of_another_study_is_computed_again(
    place: Path, study: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(study, tmp_path / "cut"))
    other = command(place, tmp_path / "other", "--eps", "0.25", "--aggregate", "score")
    assert robustcl([*other, "--no-certificates"]) == 0
    name = "arrays/attacked-single-view.npz"
    shutil.copy(tmp_path / "other" / name, folder / name)
    (folder / "study.json").unlink()
    ensemble = ("--ensemble", str(place / "model.safetensors"))
    assert robustcl([*command(place, folder, *ensemble), "--resume"]) == 0
    first, second = (json.loads((f / "study.json").read_text()) for f in (study, folder))
    assert first == second
    shutil.copy(tmp_path / "other/study.json", folder)
    with pytest.raises(RunError, match=r"study\.json.*belongs to another study.*--resume"):
        read_study(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace('"corrections": ', '"corrections": 1'), "changed after it was"),
        (lambda text: text[: len(text) // 2], "not JSON"),
        (lambda text: "[]", "no table"),
        (lambda text: "{}", "lost its checksum"),
        (lambda text: None, "has no study.json"),
    ],
)
def test_a_damaged_study_is_refused(study: Path, tmp_path: Path, change, words, capsys) -> None:
    folder = Path(shutil.copytree(study, tmp_path / "cut"))
    text = change((folder / "study.json").read_text())
    (folder / "study.json").unlink()
    if text is not None:
        (folder / "study.json").write_text(text)
    assert robustcl(["report", str(folder)]) == 2
    told = capsys.readouterr().err
    assert words in told and "study.json" in told and "--resume" in told


def test_sentences_say_the_direction_and_what_is_undecided() -> None:
    def study(gain: float, nll: float) -> dict:
        def interval(value: float) -> dict:
            return {"value": value, "low": value - 0.02, "high": value + 0.02}

        model = {"clean": {"accuracy": 0.5}, "robust": 0.25, "count": 4}
        compared = {
            "accuracy": interval(gain), "adaptive_gain": interval(-gain), "ece": interval(0.0),
            "transfer_gain": interval(0.2), "nll": interval(nll), "corrections": 3,
            "corruptions": 1,
        }  # fmt: skip
        return {"models": {"single view": model, "score of 4": model},
                "comparisons": {"score of 4": compared}}  # fmt: skip

    config = {"norm": "l2", "eps": 0.25, "views": "shift", "num_examples": 9, "num_attacked": 5}
    accuracy, robustness, calibration = sentences(study(0.05, -0.1), config)
    assert "Accuracy: better" in accuracy and "+5.0 points [+3.0, +7.0]" in accuracy
    assert "worse" in robustness and "+20.0 points" in robustness
    assert "log-likelihood better" in calibration
    assert "undecided" in sentences(study(0.01, 0.1), config)[0]
    assert "log-likelihood worse" in sentences(study(0.01, 0.1), config)[2]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--count", "0,2", "zero views"),
        ("--count", "4,2", "ascend"),
        ("--count", "many", "whole numbers"),
        ("--views", "shift:pixels=8", "leaves nothing"),
        ("--views", "zoom", "unknown family"),
        ("--aggregate", "median", "known: embedding"),
        ("--held-out", "60", "not 40 to test"),
        ("--eps", "0", "not positive"),
        ("--attack", "none", "unknown attack"),
    ],
)
def test_bad_input(place: Path, tmp_path: Path, capsys, option: str, value: str, said: str) -> None:
    assert robustcl(command(place, tmp_path / "out", option, value)) == 2
    assert said in capsys.readouterr().err


def test_held_out_images_that_are_tested_or_lack_a_class(place: Path, tmp_path, capsys) -> None:
    same = command(place, tmp_path / "a", "--held-out-data", f"npz:{place / 'data.npz'},split=all")
    assert robustcl(same) == 2
    assert "are test images as well" in capsys.readouterr().err
    draws = np.random.default_rng(5)
    images = draws.integers(0, 256, size=(30, 8, 8, 1), dtype=np.uint8)
    np.savez(place / "two.npz", images=images, labels=np.arange(30) % 2)
    few = command(place, tmp_path / "b", "--held-out-data", f"npz:{place / 'two.npz'},split=all")
    assert robustcl(few) == 2
    assert "which label is which class is not known" in capsys.readouterr().err
    assert robustcl([*few, "--classes", "positions"]) == 2
    assert "class 2 (2) has no image" in capsys.readouterr().err.replace(
        "class 2 (c)", "class 2 (2)"
    )
