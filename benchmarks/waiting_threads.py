"""Measure what it costs that OpenMP's threads spin, for several counts, idle and beside a program.

`certify run` on 96 digits runs once per count on an idle machine and once beside a process that
keeps a core busy, every second turn in the other order, and once on one thread alone.

Run: python benchmarks/waiting_threads.py CHECKPOINT [--turns 2] [--out FILE]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.busy_machine import BUSY, CHOSEN, PROGRAM, ROOT
from benchmarks.provenance import provenance, record

COUNTS = (0, 500, 1000, 2000, 20_000, 300_000)
RUN = (
    *("--data", "digits", "--quiet", "--limit", "96", "--eps", "0.2,0.9", "--batch-size", "48"),
    *("--methods", "product,local,smoothing:n=2000", "--attack", "pgd,fmn", "--out"),
)


def cost(checkpoint: Path, chosen: dict[str, str], *, busy: bool) -> tuple[float, float]:
    # Wall and processor seconds of one run.
    clean = {key: value for key, value in os.environ.items() if not key.startswith(CHOSEN)}
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "run", str(checkpoint), *RUN, f"{folder}/out"],
            env={**clean, **chosen, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begun
    if other is not None:
        other.kill()
        other.wait()
    if status:
        raise SystemExit("the run failed")
    return round(wall, 1), round(usage.ru_utime + usage.ru_stime, 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path, help="of digits")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--out", type=Path, help="append the JSON line here")
    options = parser.parse_args()
    place = options.checkpoint.absolute()
    settings = [(count, busy) for busy in (False, True) for count in COUNTS]
    found: dict[str, list[tuple[float, float]]] = {}
    for turn in range(options.turns):
        one = cost(place, {"OMP_NUM_THREADS": "1"}, busy=False)
        found.setdefault("one thread, idle", []).append(one)
        for count, busy in settings if turn % 2 == 0 else settings[::-1]:
            name = f"{count} {'beside a busy program' if busy else 'idle'}"
            spins = {"GOMP_SPINCOUNT": str(count)}
            found.setdefault(name, []).append(cost(place, spins, busy=busy))
    hidden = (str(options.checkpoint), str(options.out))
    record({"wall_and_processor_seconds": found, **provenance(hidden=hidden)}, options.out)


if __name__ == "__main__":
    main()
