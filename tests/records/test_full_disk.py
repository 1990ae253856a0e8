"""A disk that is full leaves nothing half written, and what was begun goes on to equal results."""

from pathlib import Path

import numpy as np
import pytest
import torch

from robustcl.cli.main import certify, robustcl
from robustcl.models.checkpoint import load_checkpoint
from robustcl.records.lines import numbered_lines, parsed_line
from tests.cli.random_checkpoint import random_checkpoint
from tests.cli.test_kill import plain
from tests.core.hard_cases import enlarge, small_disk


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    model, data = random_checkpoint(tmp_path_factory.mktemp("given"))
    return str(model), data


def test_a_run_goes_on_to_equal_records(
    given: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", given[0], "--data", given[1], "--split", "test", "--limit", "12", "--quiet"]
    words += ["--batch-size", "4", "--methods", "product", "--attack", "deepfool", "--eps", "9"]
    assert certify([*words, "--out", str(tmp_path / "whole")]) == 0
    expected, points = plain(tmp_path / "whole"), set[int]()
    for kilobytes in (24, 44, 56, 120):  # full at the first records, later, and at the report
        with small_disk(tmp_path, kilobytes=kilobytes) as disk:
            out = disk / "run"
            assert certify([*words, "--out", str(out)]) not in (0, 1, 5), kilobytes
            assert "No space left" in capsys.readouterr().err
            place = out / "records-0.jsonl"
            lines = list(numbered_lines(place)) if place.exists() else []
            assert all(parsed_line(line, checked=True)[1] == "" for _, line in lines)
            assert not list(disk.rglob("*.part"))
            points.add(len(lines))
            enlarge(disk)
            assert certify([*words, "--out", str(out), "--resume"]) == 0
            assert plain(out) == expected
            assert "damaged" not in capsys.readouterr().err
    assert len(points) >= 3 and max(points) == len(expected), points


def test_single_files_are_whole_or_absent(
    given: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = given
    commands = {
        "e.npz": ["embed", model, "--data", data],
        "p.safetensors": ["probe", model, "--data", data],
        "c.safetensors": ["convert", model, "--arch", "small_convnet", "--input-size", "1x8x8",
                          "--arguments",
                          '{"channels": 1, "image_size": 8, "width": 4, "embedding_size": 5}'],
    }  # fmt: skip
    with small_disk(tmp_path, "a page", kilobytes=4) as disk:
        for name, words in commands.items():
            assert robustcl([*words, "--out", str(disk / name)]) not in (0, 1, 5)
            assert "No space left" in capsys.readouterr().err
            assert [entry.name for entry in disk.iterdir()] == ["a page"]
        enlarge(disk)
        for name, words in commands.items():
            assert robustcl([*words, "--out", str(disk / name)]) == 0
        assert len(np.load(disk / "e.npz")["index"]) > 0
        assert len(list(disk.iterdir())) == 4


def test_a_training_goes_on_to_equal_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", "digits", "--limit", "150", "--batch-size", "64", "--epochs", "2"]
    words += ["--measure-every", "0", "--quiet", "--save-every", "1"]
    assert robustcl([*words, "--out", str(tmp_path / "whole.safetensors")]) == 0
    whole = load_checkpoint(tmp_path / "whole.safetensors")
    size = (tmp_path / "whole.safetensors").stat().st_size // 1024
    for kilobytes in (size // 2, 3 * size + 40, 4 * size + 20):
        with small_disk(tmp_path, kilobytes=kilobytes) as disk:
            out = disk / "a.safetensors"
            first = robustcl([*words, "--out", str(out)])
            assert not list(disk.rglob("*.part"))
            enlarge(disk)
            assert robustcl([*words, "--out", str(out), "--resume"]) == 0
            assert first not in (0, 1, 5), kilobytes
            found = load_checkpoint(out)
            assert found.description == whole.description
            weights = found.encoder.state_dict()
            for name, value in whole.encoder.state_dict().items():
                assert torch.equal(weights[name], value)
            names = sorted(entry.name for entry in disk.iterdir())
            assert names == ["a.csv", "a.png", "a.safetensors"]
        capsys.readouterr()
