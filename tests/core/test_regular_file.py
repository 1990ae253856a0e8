"""Files, and what only looks like one."""

import os
import socket
from pathlib import Path

import pytest

from robustcl.core.errors import InputError, RunError
from robustcl.core.files import is_folder, objection_to_file, open_file, read_file, require_file
from tests.fuzz.build_data import odd_entries


def test_only_ordinary_files_are_opened(tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.write_bytes(b"abc")
    (tmp_path / "link").symlink_to(good)
    for place in (good, tmp_path / "link"):
        assert objection_to_file(place) is None
        with open_file(place, cure="x") as stream:
            assert stream.read() == b"abc"
    bad = [tmp_path, tmp_path / "absent", Path("/dev/zero"), Path("/dev/stdin"), good / "inside"]
    for number, make in enumerate(odd_entries().values()):
        bad.append(tmp_path / str(number))
        make(bad[-1])
    with socket.socket(socket.AF_UNIX) as listener:
        bad.append(Path(os.path.relpath(tmp_path / "s")))
        listener.bind(str(bad[-1]))
        for place in (*bad, Path("a" * 5000), Path("a\0b")):
            assert objection_to_file(place)
            for attempt in (require_file, open_file):
                with pytest.raises(RunError, match=r"; do this$"):
                    attempt(place, cure="do this", error=RunError)
    assert is_folder(tmp_path) and not is_folder(good)
    assert not is_folder(Path("a" * 5000)) and not is_folder(Path("a\0b"))


def test_what_became_a_pipe_is_refused_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("robustcl.core.files.require_file", lambda *_, **__: None)
    with pytest.raises(InputError, match="named pipe"):
        open_file(tmp_path / "pipe", cure="x")


def test_no_more_is_read_than_is_allowed(tmp_path: Path) -> None:
    place = tmp_path / "x"
    place.write_bytes(b"12345")
    assert read_file(place, most=5, cure="x") == b"12345"
    with pytest.raises(InputError, match="5 bytes, more than the 4 that are read"):
        read_file(place, most=4, cure="x")
    os.truncate(place, 2**40)  # a file with a hole, which takes no room
    with pytest.raises(InputError, match="1,099,511,627,776 bytes"):
        read_file(place, most=10**6, cure="x")
