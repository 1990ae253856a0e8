"""Malformed inputs of every kind end with one line and exit code 2, and change nothing else."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from tests.fuzz.campaign import seeds_of
from tests.fuzz.case import Case, Ended
from tests.fuzz.judge import faults_of
from tests.fuzz.mutations import spoiled, spoiled_bytes
from tests.fuzz.registry import KINDS
from tests.fuzz.surroundings import difference, snapshot

ROOT = Path(__file__).parents[2]
COUNT, PROCESSES = 300, 10


def test_three_hundred_malformed_inputs_are_refused_in_words(tmp_path: Path) -> None:
    # In a process of its own: this one may have threads, with which torch cannot be forked.
    words = ["--count", str(COUNT), "--processes", str(PROCESSES), "--jobs", "2"]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *words, "--out", str(tmp_path / "counts.json")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-6000:]
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts["inputs"] == COUNT + PROCESSES
    assert len(counts["kinds"]) >= 0.9 * len(KINDS)  # nearly every kind was drawn
    assert not list(tmp_path.glob("robustcl-fuzz-*"))


GOOD = Ended(2, "", "error: 'bad.npz' is empty; give another\n", 0.1, 10.0)
CASE = Case("robustcl", ["embed"], names=("bad.npz",))


def test_a_refusal_in_one_line_is_no_fault() -> None:
    assert faults_of(CASE, GOOD, []) == []


def test_every_way_to_fail_is_a_fault() -> None:
    def ended(**changes: object) -> Ended:
        return Ended(**{**vars(GOOD), **changes})  # pyright: ignore[reportArgumentType]

    traceback = "Traceback (most recent call last)\nerror: 'bad.npz'\n"
    for found, changed in [
        (ended(code=1), []),
        (ended(code=5), []),
        (ended(code=0), []),
        (ended(code=None), []),
        (ended(code=139), []),
        (ended(err=traceback), []),
        (ended(err=""), []),
        (ended(err="error: 'bad.npz'\nerror: 'bad.npz'\n"), []),
        (ended(err="error: 'bad.npz'\nmore\n"), []),
        (ended(err="error: something is wrong\n"), []),
        (ended(err="error: 'bad.npz' \x1b[2J\n"), []),
        (ended(out="\u202e"), []),
        (ended(err="error: 'bad.npz'" + "x" * 3000 + "\n"), []),
        (ended(mebibytes=2000.0), []),
        (ended(events=("subprocess.Popen gs",)), []),
        (GOOD, ["'photo.png' was removed"]),
    ]:
        assert faults_of(CASE, found, changed), found


def test_what_lies_around_is_compared(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("kept", "gone", "other", "touched", "out"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "link").symlink_to("kept")
    before = snapshot(tmp_path, without=("out",))
    assert difference(before, snapshot(tmp_path, without=("out",))) == []
    (tmp_path / "gone").unlink()
    (tmp_path / "other").write_text("them")
    os.utime(tmp_path / "touched", (0, 0))
    (tmp_path / "folder" / "new").write_text("")
    (tmp_path / "out").write_text("written")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("other")
    assert difference(before, snapshot(tmp_path, without=("out",))) == [
        "'folder/new' was made",
        "'gone' was removed",
        "'link' was changed",
        "'other' was changed",
        "'touched' was changed",
    ]


def test_seeds_of_a_longer_campaign_go_on() -> None:
    assert seeds_of(5, 1)[:3] == seeds_of(3, 1)
    assert not set(seeds_of(5000, 1)) & set(seeds_of(5000, 0))


def test_mutations_change_something() -> None:
    value = {"a": 1, "b": [1.5, {"c": "x"}], "d": None}
    draws = random.Random(0)
    found = [spoiled(draws, value)[0] for _ in range(200)]
    assert sum(repr(one) != repr(value) for one in found) > 190
    assert repr(value) == repr({"a": 1, "b": [1.5, {"c": "x"}], "d": None})
    content = bytes(range(256))
    assert sum(spoiled_bytes(draws, content) != content for _ in range(200)) > 190
