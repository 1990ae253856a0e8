"""Freed memory is kept: the same work takes far fewer page faults, unless the user chose."""

import os
import platform
import subprocess
import sys

import pytest

from robustcl.core.freed_memory import keep_freed_memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")
# numpy takes memory as torch does, and starts much faster.
WORK = """
import resource, sys
import numpy as np
if sys.argv[1] == "keep":
    from robustcl.core.freed_memory import keep_freed_memory
    assert keep_freed_memory()
def work():
    for _ in range(40):
        np.ones(2**22)  # 32 MiB
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str) -> int:
    plain = {key: value for key, value in os.environ.items() if "MALLOC" not in key}
    done = subprocess.run(
        [sys.executable, "-c", WORK, word], env=plain, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@glibc
def test_memory_is_not_faulted_in_again() -> None:
    assert faults("keep") < 0.1 * faults("default")


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_the_users_own_choice_stands(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert not keep_freed_memory()


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
