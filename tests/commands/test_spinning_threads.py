"""The warning about spinning threads: on busy cores only, and not against the user's choice."""

import os
import sys

import pytest
import torch

from robustcl.commands.spinning_threads import spinning_threads


def machine(patch: pytest.MonkeyPatch, *, threads: int, load: float) -> None:
    patch.setattr(sys, "platform", "linux")
    patch.delenv("OMP_WAIT_POLICY", raising=False)
    patch.delenv("GOMP_SPINCOUNT", raising=False)
    patch.setattr(torch, "get_num_threads", lambda: threads)
    patch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    patch.setattr(os, "getloadavg", lambda: (load, load, load), raising=False)


def test_two_threads_beside_a_busy_process_are_warned_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(monkeypatch, threads=2, load=1.0)
    found = spinning_threads()
    assert found is not None and "OMP_WAIT_POLICY=PASSIVE" in found
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert spinning_threads() is None


@pytest.mark.parametrize(("threads", "load"), [(2, 0.3), (1, 9.0)])
def test_where_nothing_spins_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, threads: int, load: float
) -> None:
    machine(monkeypatch, threads=threads, load=load)
    assert spinning_threads() is None
