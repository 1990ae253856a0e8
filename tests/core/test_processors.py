"""Threads sleep while they wait and keep within a container's quota, unless the user has chosen."""

import os
import sys
from pathlib import Path

import pytest

from robustcl.core import processors
from robustcl.core.processors import allowed_processors, share_processors

CHOICES = (*processors.WAITS, *processors.COUNTS)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for /sys/fs/cgroup, on a machine of 8 processors before torch is loaded."""
    for name in CHOICES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(processors, "GROUPS", tmp_path / "sys")
    monkeypatch.setattr(processors, "OWN_GROUPS", tmp_path / "own")
    return tmp_path


def version2(groups: Path, own: str, **quotas: str) -> None:
    (groups / "own").write_text(f"0::{own}\n")
    for name, text in quotas.items():
        folder = groups / "sys" / name.replace("_", "/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(text)


@pytest.mark.parametrize(
    ("quota", "allowed"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),  # all of it is used
        ("20000 100000\n", 1),
        ("max 100000\n", None),
        ("900000 100000\n", None),  # more than there are
        ("200000 0\n", None),
        ("much\n", None),
        ("-1 100000\n", None),
        ("nan 100000\n", None),
    ],
)
def test_a_quota_of_version_2(groups: Path, quota: str, allowed: int | None) -> None:
    version2(groups, "/a/b", a_b=quota)
    assert allowed_processors() == allowed


def test_a_quota_above_the_own_group_holds_too(groups: Path) -> None:
    version2(groups, "/a/b", a="300000 100000", a_b="max 100000")
    assert allowed_processors() == 3


def test_a_quota_of_version_1(groups: Path) -> None:
    (groups / "own").write_text("4:memory:/m\n3:cpu,cpuacct:/c\n1:cpuset:/\n")
    folder = groups / "sys" / "cpu,cpuacct" / "c"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("400000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert allowed_processors() == 4
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert allowed_processors() is None


@pytest.mark.parametrize("own", ["", "nonsense\n", "0::/../../x\n", "0::/none\n\n::\n"])
def test_what_says_nothing_limits_nothing(groups: Path, own: str) -> None:
    (groups / "own").write_text(own)
    assert allowed_processors() is None
    (groups / "own").unlink()
    assert allowed_processors() is None


def test_commands_choose_where_the_user_has_not(groups: Path) -> None:
    version2(groups, "/", **{"": "200000 100000"})
    share_processors()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["OMP_NUM_THREADS"]) == ("PASSIVE", "2")
    assert os.environ["GOMP_SPINCOUNT"] == processors.SPINS


@pytest.mark.parametrize("name", CHOICES)
def test_the_users_choice_stays(groups: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    version2(groups, "/", **{"": "200000 100000"})
    monkeypatch.setenv(name, "7")
    share_processors()
    chosen = "OMP_NUM_THREADS" if name in processors.COUNTS else "OMP_WAIT_POLICY"
    assert os.environ.get(chosen) == ("7" if name == chosen else None)
    assert os.environ[name] == "7"


def test_once_torch_is_loaded_it_is_too_late(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", object())
    share_processors()
    assert "OMP_WAIT_POLICY" not in os.environ
