"""The warning about spinning threads: on busy cores only, and not against the user's choice."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from robustcl.commands import spinning_threads as module
from robustcl.commands.spinning_threads import spinning_threads


def machine(
    patch: pytest.MonkeyPatch, place: Path, *, threads: int, running: int, load: float = 0.0
) -> None:
    place.write_text(f"{load} {load} {load} {running}/345 6789\n")
    patch.setattr(sys, "platform", "linux")
    patch.delenv("OMP_WAIT_POLICY", raising=False)
    patch.delenv("GOMP_SPINCOUNT", raising=False)
    patch.setattr(torch, "get_num_threads", lambda: threads)
    patch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    patch.setattr(module, "LOADS", place)


def test_two_threads_beside_a_busy_process_are_warned_about(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(monkeypatch, tmp_path / "loadavg", threads=2, running=2)
    found = spinning_threads()
    assert found is not None and "of which others hold 1" in found
    assert "OMP_WAIT_POLICY=PASSIVE" in found
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert spinning_threads() is None


@pytest.mark.parametrize(("threads", "running"), [(2, 1), (1, 9)])
def test_where_nothing_spins_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: int, running: int
) -> None:
    # A load of 2 that is over: this process's own, or that of the one before.
    machine(monkeypatch, tmp_path / "loadavg", threads=threads, running=running, load=2.0)
    assert spinning_threads() is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_that_run_are_counted() -> None:
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        during = max(module._others() for _ in range(5))
    finally:
        for process in spinning:
            process.kill()
            process.wait()
    assert during >= 4


def test_without_the_file_nobody_is_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(monkeypatch, tmp_path / "loadavg", threads=2, running=9)
    (tmp_path / "loadavg").unlink()
    assert spinning_threads() is None
