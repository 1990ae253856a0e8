"""What the environment did is told from bad input and from faults, inside libraries too."""

import errno
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import save_file

from robustcl.core.environment import environment_failure, is_bad_path
from robustcl.core.errors import CheckpointError, InputError, RunError, ViolationError
from robustcl.core.last_handler import exit_code

FULL = Path("/dev/full")  # every write fails for want of space


def raised_from(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.skipif(not FULL.exists(), reason="has no /dev/full")
@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write(b"x"),
        lambda file: np.zeros(99_999).tofile(file),
        lambda file: np.savez(file, x=np.zeros(9)),
        lambda file: torch.save({"x": torch.zeros(9)}, file),
        lambda file: pyarrow.parquet.write_table(pa.table({"x": [1]}), file),
    ],
    ids=["python", "tofile", "savez", "torch", "pyarrow"],
)
def test_a_full_disk_in_libraries(write) -> None:
    # Opened here: given the name, some libraries remove what they could not write, a device too.
    with pytest.raises(Exception) as caught, FULL.open("wb", buffering=0) as file:  # noqa: PT011
        write(file)
    assert environment_failure(caught.value), repr(caught.value)
    assert exit_code(caught.value) == 6


@pytest.mark.parametrize(
    "text", ["basic_ios::clear: iostream error", "PytorchStreamWriter failed writing file data/0"]
)
def test_a_full_disk_as_torch_says_it(text: str) -> None:
    assert exit_code(RuntimeError(text)) == 6


def test_a_folder_that_is_not_there_is_the_users_also_in_a_library(tmp_path: Path) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 the library's own
        save_file({"x": torch.zeros(9)}, tmp_path / "none" / "x.safetensors")
    assert is_bad_path(caught.value) and exit_code(caught.value) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "x"), 6),
        (OSError(errno.EROFS, "Read-only file system"), 6),
        (OSError(errno.EMFILE, "Too many open files"), 6),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 6),
        (RuntimeError("Error while serializing: I/O error: No space left (os error 28)"), 6),
        (RuntimeError("can't start new thread"), 6),
        (OSError("encoder error -2 when writing image file"), 6),
        (TimeoutError("timed out"), 6),
        (torch.OutOfMemoryError("CUDA out of memory"), 6),
        (raised_from(RunError("one image does not fit"), MemoryError()), 6),
        (raised_from(InputError("it would take 9 TB"), MemoryError()), 2),
        (raised_from(CheckpointError("no weights"), OSError(errno.EIO, "Input/output error")), 6),
        (raised_from(CheckpointError("no weights"), OSError(errno.EINVAL, "Invalid")), 2),
        (InputError("the file says '[Errno 28] No space left on device'"), 2),
        (raised_from(InputError("x"), OSError(errno.ENOENT, "No such file")), 2),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 2),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "x"), 2),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x"), 2),
        (ViolationError("beaten"), 1),
        (KeyError("[Errno 28] as a key"), 5),
        (OSError("Corrupt snappy data"), 5),
        (SystemExit(1), 5),
        (SystemExit(2), 2),
        (SystemExit(), 0),
    ],
    ids=repr,
)
def test_codes(
    error: BaseException,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert exit_code(error) == code
    assert len(capsys.readouterr().err.splitlines()) == (
        not isinstance(error, SystemExit) or code == 5
    )
    assert len(list(tmp_path.iterdir())) == (code == 5)


def test_one_line_whatever_the_message_holds(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code(InputError("a\nb \x1b[31m"))
    assert capsys.readouterr().err == "error: a\\nb \\x1b[31m\n"


def test_the_traceback_is_saved_where_temporary_files_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError("by\nzero")
    assert exit_code(caught.value) == 5
    (place,) = tmp_path.iterdir()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"the traceback in {place}") and "by\\nzero" in line
    saved = place.read_text()
    assert "test_environment.py" in saved and "ZeroDivisionError" in saved


def test_never_into_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # as where nothing else can be written
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    assert exit_code(ZeroDivisionError("x")) == 5
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err.splitlines()[-1].endswith("the traceback above")


def test_a_reason_is_said_once() -> None:
    cause = PermissionError(errno.EACCES, "Permission denied", "a.bin")
    told = raised_from(InputError("'a.bin' cannot be read (Permission denied); allow it"), cause)
    assert environment_failure(told) == str(told)
    untold = raised_from(InputError("'a.bin' cannot be read; allow it"), cause)
    assert environment_failure(untold) == f"{untold} ({cause})"
