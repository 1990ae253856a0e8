"""Files are whole or as they were, whatever happens to the writer."""

import os
import resource
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from robustcl.core import atomic
from tests.core.hard_cases import forked, small_disk


def test_a_kill_in_the_middle_leaves_the_old_file_and_the_next_start_removes_the_rest(
    tmp_path: Path,
) -> None:
    place = tmp_path / "a.json"
    place.write_text("old")

    def dies() -> None:
        with atomic.replacing(place) as temporary:
            temporary.write_text("half of the new")
            os.kill(os.getpid(), signal.SIGKILL)

    assert forked(dies) == -signal.SIGKILL
    assert place.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    atomic.remove_dead_files(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    place.write_text("old")

    def stops() -> None:
        with atomic.replacing(place) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stops()
    assert place.read_text() == "old" and [e.name for e in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_an_ordinary_new_file(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        atomic.write_text(tmp_path / "a", "text")
        with atomic.replacing(tmp_path / "b") as temporary:  # as a library that makes its own file
            temporary.unlink()
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    for name in "ab":
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("name", ["x" * 255, "ß" * 127, "line\nbreak", " ", "-rf", "%s{}*?[a]"])
def test_any_name_that_the_disk_takes(name: str, tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        atomic.write_bytes(tmp_path / name, content)
        assert [e.name for e in tmp_path.iterdir()] == [name]
        assert (tmp_path / name).read_bytes() == content


def test_temporary_files_of_living_processes_stay(tmp_path: Path) -> None:
    with atomic.replacing(tmp_path / "a") as temporary:
        atomic.remove_dead_files(tmp_path)
        assert temporary.exists()
        assert forked(lambda: atomic.remove_dead_files(tmp_path)) == 0
        assert temporary.exists()
        # The same number in another process: the one that was given it later is not the writer.
        parts = temporary.name.split("-")
        again = temporary.with_name("-".join([*parts[:3], str(int(parts[3]) + 1), parts[4]]))
        again.write_text("left by a process whose number was used again")
        atomic.remove_dead_files(tmp_path)
        assert not again.exists() and temporary.exists()
    assert (tmp_path / "a").exists()


def test_what_another_machine_left_goes_after_a_day(tmp_path: Path) -> None:
    names = [".robustcl-00000000-1-1-0.part", ".model.safetensors.123", ".model.csv.0.123"]
    others = [".robustcl-note.part", ".model.safetensors.x1", ".other.safetensors.123", "model.1"]
    for name in (*names, *others):
        (tmp_path / name).write_text("")
    known = ["model.safetensors", "model.csv"]
    atomic.remove_dead_files(tmp_path, names=known)
    assert len(list(tmp_path.iterdir())) == 7  # somebody may be at work there now
    for entry in tmp_path.iterdir():
        os.utime(entry, (time.time() - 90_000, time.time() - 90_000))
    atomic.remove_dead_files(tmp_path)
    assert {e.name for e in tmp_path.iterdir()} == {*names[1:], *others}
    atomic.remove_dead_files(tmp_path, names=known)
    assert {e.name for e in tmp_path.iterdir()} == set(others)


def test_a_folder_in_the_place_of_a_temporary_file_stops_nothing(tmp_path: Path) -> None:
    odd = tmp_path / f".robustcl-{atomic._machine()}-999999999-1-0.part"
    (odd / "inner").mkdir(parents=True)
    atomic.remove_dead_files(tmp_path)
    atomic.remove_dead_files(tmp_path / "nowhere")
    assert (odd / "inner").is_dir()


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("of somebody else")
    (tmp_path / "a").symlink_to(other)
    atomic.write_text(tmp_path / "a", "ours")
    assert other.read_text() == "of somebody else" and not (tmp_path / "a").is_symlink()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        atomic.write_text(tmp_path / "folder", "ours")
    assert sorted(e.name for e in tmp_path.iterdir()) == ["a", "folder", "other"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        place = disk / "a.json"
        atomic.write_text(place, "old")
        with pytest.raises(OSError, match="No space"):
            atomic.write_bytes(place, bytes(1 << 21))
        assert place.read_text() == "old" and [e.name for e in disk.iterdir()] == ["a.json"]
        atomic.write_text(place, "new")
        assert place.read_text() == "new"


def test_a_file_beyond_the_limit_leaves_the_old_one(tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    place.write_text("old")

    def writes() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(OSError, match="too large"):
            atomic.write_bytes(place, bytes(2000))

    assert forked(writes) == 0
    assert place.read_text() == "old" and [e.name for e in tmp_path.iterdir()] == ["a.json"]


def test_a_read_only_folder_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    if os.geteuid() == 0:
        with small_disk(tmp_path, "a") as disk:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            with pytest.raises(OSError, match="Read-only"):
                atomic.write_text(disk / "a", "new")
            atomic.remove_dead_files(disk)
            assert (disk / "a").read_text() == "old"
        return
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            atomic.write_text(tmp_path / "a", "new")
    finally:
        tmp_path.chmod(0o700)
    assert (tmp_path / "a").read_text() == "old"
