"""Nothing but a violation ends with exit code 1, and nothing leaves a command as an exception."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from robustcl.cli import certify, robustcl
from robustcl.commands import inspect
from tests.commands.random_checkpoint import ARCHITECTURE, random_checkpoint

NONE = ("--methods", "none", "--attack", "none", "--quiet")


def test_an_out_that_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = random_checkpoint(tmp_path)
    for out in (model, model / "run", tmp_path / ("x" * 300)):
        code = certify(["run", str(model), "--data", data, "--out", str(out), *NONE])
        *_, last = capsys.readouterr().err.splitlines()
        assert code == 2 and last.startswith("error: ") and out.name in last


def test_a_name_that_is_too_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, _ = random_checkpoint(tmp_path)
    words = ["embed", str(model), "--data", f"npz:{'x' * 5000}", "--out", str(tmp_path / "e.npz")]
    assert robustcl(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


@pytest.mark.parametrize("width", [-1, 10**12])
def test_arguments_that_torch_refuses(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = random_checkpoint(tmp_path)
    words = ["convert", str(model), "--arch", "small_convnet", "--input-size", "1x8x8"]
    arguments = json.dumps({**ARCHITECTURE, "width": width})
    code = robustcl([*words, "--arguments", arguments, "--out", str(tmp_path / "c.safetensors")])
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2 and line.startswith("error: architecture 'small_convnet' ")
    assert ("cannot be built" if width < 0 else "far more weights") in line


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "No space left on device"), 6, "error: [Errno 28] No space left on device"),
        (MemoryError(), 6, "error: memory ran out"),
        (ZeroDivisionError("by zero"), 5, "error: unexpected ZeroDivisionError: by zero"),
    ],
)
def test_what_nobody_foresaw(
    error: Exception,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(options: object) -> int:
        raise error

    monkeypatch.setattr(inspect, "inspect", fail)
    assert robustcl(["inspect", "model.safetensors"]) == code
    assert capsys.readouterr().err.splitlines()[-1].startswith(said)


def test_a_reader_that_goes_away_is_no_violation(tmp_path: Path) -> None:
    model, _ = random_checkpoint(tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "robustcl", "inspect", str(model)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == 6 and not done.stderr
