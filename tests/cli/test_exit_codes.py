"""Nothing but a violation ends with exit code 1, and nothing leaves a command as an exception."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from robustcl.cli import inspect
from robustcl.cli.main import certify, robustcl
from robustcl.core.terminal import prepare_streams
from robustcl.models.encoders import small_convnet
from tests.cli.random_checkpoint import ARCHITECTURE, random_checkpoint

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
    model = tmp_path / "weights.pth"
    torch.save(small_convnet(**ARCHITECTURE).state_dict(), model)
    words = ["convert", str(model), "--arch", "small_convnet", "--input-size", "1x8x8"]
    arguments = json.dumps({**ARCHITECTURE, "width": width})
    code = robustcl([*words, "--arguments", arguments, "--out", str(tmp_path / "c.safetensors")])
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2 and "architecture 'small_convnet' " in line
    assert ("cannot be built" if width < 0 else "far more weights") in line


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "No space left on device"), 6, "error: [Errno 28] No space left on device"),
        (PermissionError(13, "Permission denied", "x"), 6, "error: [Errno 13] Permission denied"),
        (MemoryError(), 6, "error: memory ran out"),
        (ZeroDivisionError("by zero"), 5, "error: unexpected ZeroDivisionError: by zero"),
        (ImportError("a library is broken"), 5, "error: unexpected ImportError"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_nobody_foresaw(
    error: BaseException,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(options: object) -> int:
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(inspect, "inspect", fail)
    assert robustcl(["inspect", "model.safetensors"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


def test_a_command_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "robustcl.cli.inspect", None)
    assert robustcl(["inspect", "model.safetensors"]) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: unexpected ModuleNotFoundError: ")


def ended(*words: str, shell: str = "", encoding: str = "") -> tuple[int, str]:
    """Run `python -m` with the words, in a line of bash where one is given."""
    environment = {**os.environ, **({"PYTHONIOENCODING": encoding} if encoding else {})}
    command = [sys.executable, "-m", *words]
    if shell:  # `$@` stands for the command
        command = ["bash", "-c", f"set -o pipefail; {shell}", "bash", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="of bash and /dev/full")
def test_an_answer_that_cannot_be_written_is_no_violation() -> None:
    for words in (
        ("robustcl.certify", "methods"),
        ("robustcl", "--help"),
        ("robustcl", "bench", "--help"),
    ):
        code, said = ended(*words, shell='"$@" >/dev/full')
        assert code == 6 and said == "error: [Errno 28] No space left on device\n"
    code, said = ended("robustcl.certify", "methods", shell='"$@" >&-')
    assert code == 6 and said.startswith("error: ") and said.count("\n") == 1
    assert ended("robustcl.certify", "methods", shell='"$@" 2>&- <&-') == (0, "")
    assert ended("robustcl.certify", "methods", encoding="ascii") == (0, "")


def test_a_reader_that_goes_away_is_no_violation() -> None:
    for words in (["robustcl.certify", "methods"], ["robustcl", "train", "--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", *words]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
        os.close(writer)
        assert done.returncode == 6 and not done.stderr


def test_a_name_that_stdout_cannot_spell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(inspect, "inspect", lambda options: print(f"\u2603 \udcff {options}") or 0)
    assert robustcl(["inspect", "schnee\u2603.safetensors"]) == 0
    assert raw.getvalue().startswith(b"\\u2603 \\udcff ") and raw.getvalue().isascii()


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_a_library_that_exits_by_itself_is_no_violation() -> None:
    program = (
        "import ctypes, sys, robustcl.cli.methods as room; from robustcl.cli.main import certify; "
        "sys.argv = ['certify', 'methods']; "
        "room.methods = lambda _: 0; "
        "assert certify() == 0; room.methods = lambda _: ctypes.CDLL(None).exit(1); "
        "sys.exit(certify())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -signal.SIGABRT


def test_a_handler_of_faults_does_not_change_the_end() -> None:
    program = (
        "import os, sys; from robustcl.cli.main import certify; sys.argv = ['certify', 'methods']; "
        "code = certify(); assert os.environ['MPLBACKEND'] == 'agg'; sys.exit(code)"
    )
    command = [sys.executable, "-X", "faulthandler", "-c", program]
    environment = {**os.environ, "MPLBACKEND": "of a notebook elsewhere"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == 0 and not done.stderr


def test_a_number_that_is_a_file_to_read_is_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    # A shell opens its script by the number of a closed stream, and leaves it to the command.
    number = os.open(os.devnull, os.O_RDONLY)
    with open(number, "w", encoding="utf-8") as useless:
        monkeypatch.setattr(sys, "stderr", useless)
        prepare_streams()
        print("a message that is lost", file=sys.stderr, flush=True)
        monkeypatch.setattr(sys, "stdout", useless)
        with pytest.raises(OSError, match="stdout is closed"):
            prepare_streams()
