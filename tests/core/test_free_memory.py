"""How much memory is free, as the system and containers tell it."""

from pathlib import Path

import pytest

from robustcl.core.errors import InputError
from robustcl.core.memory import available_memory, require_memory


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_the_least_of_all_limits_counts(tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  1000 kB\n"})
    assert available_memory(tmp_path) == 1_024_000
    group = "sys/fs/cgroup/job/step"
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/job/step\n4:memory:/old\n",
            f"{group}/memory.max": "500000\n",
            f"{group}/memory.current": "300000\n",
            f"{group}/memory.stat": "anon 9\ninactive_file 50000\n",
        },
    )
    assert available_memory(tmp_path) == 250_000
    write(tmp_path, {"sys/fs/cgroup/job/memory.max": "max", f"{group}/memory.max": "max"})
    assert available_memory(tmp_path) == 1_024_000
    old = "sys/fs/cgroup/memory/old/memory"
    write(tmp_path, {f"{old}.limit_in_bytes": "70", f"{old}.usage_in_bytes": "90"})
    assert available_memory(tmp_path) == 0


def test_what_does_not_fit_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustcl.core.memory.available_memory", lambda: 2 * 2**30)
    require_memory(2 * 2**30, what="x", cure="y")
    with pytest.raises(InputError, match=r"^x would take 3.0 GiB of memory, and 2.0 GiB are free"):
        require_memory(3 * 2**30, what="x", cure="y")
    monkeypatch.setattr("robustcl.core.memory.available_memory", lambda: None)
    require_memory(2**80, what="x", cure="y")
