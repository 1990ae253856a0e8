"""Measure what a command costs on an idle machine and beside a program that keeps a core busy.

Each pair runs the command alone on one thread, alone with the threads that it chooses, and beside a
busy process, one after the other and every second pair in the other order. Processor time is that
of the command alone. With `--before TREE` the code in another checkout runs alone and beside the
busy process as well. Variables of OpenMP are taken out of the environment.

Run: python benchmarks/busy_machine.py [--pairs 3] [--before TREE] [--out FILE]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = (
    "import sys; from robustcl.cli.main import certify; raise SystemExit(certify(sys.argv[1:]))"
)
BUSY = "while True: pass"
CHOSEN = ("OMP", "GOMP", "KMP", "MKL")  # prefixes of the variables that are taken out


def cost(tree: Path, threads: int | None, *, busy: bool) -> tuple[float, float]:
    """Run `certify demo` once.

    Args:
        tree: The checkout.
        threads: Of OpenMP; None leaves the choice to the command.
        busy: Whether another program keeps a core busy meanwhile.

    Returns:
        Processor seconds and wall seconds.

    Raises:
        SystemExit: When the demo fails.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith(CHOSEN)}
    chosen = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "demo", "--quiet", "--out", f"{folder}/out"],
            cwd=folder,
            env={**clean, **chosen, "PYTHONPATH": str(tree)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - begun
    if other is not None:
        other.kill()
        other.wait()
    if status:
        raise SystemExit(f"the demo ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, wall


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--before", type=Path, help="another checkout, to compare with")
    parser.add_argument("--out", type=Path, help="append the JSON line here")
    options = parser.parse_args()
    settings = {
        "one thread, alone": (ROOT, 1, False),
        "default, alone": (ROOT, None, False),
        "default, one core busy": (ROOT, None, True),
    }
    if options.before is not None:
        settings["before, alone"] = (options.before.resolve(), None, False)
        settings["before, one core busy"] = (options.before.resolve(), None, True)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in settings}
    for pair in range(options.pairs):
        for name in settings if pair % 2 == 0 else reversed(settings):
            tree, threads, busy = settings[name]
            found[name].append(cost(tree, threads, busy=busy))
    alone = [used for used, _ in found["one thread, alone"]]
    rows = {}
    for name, costs in found.items():
        ratios = [used / one for (used, _), one in zip(costs, alone, strict=True)]
        rows[name] = {
            "processor_seconds": [round(used, 1) for used, _ in costs],
            "wall_seconds": [round(wall, 1) for _, wall in costs],
            "over_one_thread": round(statistics.median(ratios), 2),
        }
    hidden = (str(options.before), str(options.out))
    record({"settings": rows, **provenance(hidden=hidden)}, options.out)


if __name__ == "__main__":
    main()
