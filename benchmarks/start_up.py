"""Measure the processor time that commands take before they do any work.

Each command runs as a process of its own, in turn with the others, so that all see the same
machine. 'until the first image' is a run that ends where it would measure its first batch: what it
takes beyond 'import torch' is start-up, with the loading of the checkpoint and the data and the
lowering of the network in it; 'lower the network' is the lowering alone, in a process that has
loaded the same checkpoint.

Run: python benchmarks/start_up.py --work DIR [--repeats 7] [--out FILE]
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record

ROOT = Path(__file__).resolve().parents[1]
UNTIL = """\
import os, sys
from robustcl import cli
import importlib
real = importlib.import_module
def watched(name, package=None):
    module = real(name, package)
    if name == "robustcl.cli.run":
        evaluating = real("robustcl.evaluation.measuring")
        evaluating.measure_batch = lambda *a, **o: os._exit(0)
    return module
importlib.import_module = watched
raise SystemExit(cli.certify(sys.argv[1:]))
"""
LOWER = """\
import time
from robustcl.models.checkpoint import load_checkpoint
from robustcl.certify.preparation import traced
model = load_checkpoint("model.safetensors").classifier
begun = time.process_time()
traced(model, norm="l2", method="product")
print(time.process_time() - begun)
"""
RUN = (
    *("run", "model.safetensors", "--data", "digits", "--limit", "2", "--methods", "product"),
    *("--attack", "none", "--eps", "0.1", "--quiet", "--out"),
)


def processor_seconds(words: list[str], folder: Path) -> float:
    """Run a process and measure its processor time, or read what it measured itself.

    Args:
        words: Arguments of Python.
        folder: Where it runs.

    Returns:
        Seconds, those of the system included.

    Raises:
        RuntimeError: When it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"{words}: {ended.stderr.decode()[-500:]}")
    if LOWER in words:
        return float(ended.stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="append the JSON line here")
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    model = ["-m", "robustcl", "train", "--data", "digits", "--epochs", "1"]
    processor_seconds([*model, "--quiet", "--out", "model.safetensors"], work)
    commands = {
        "certify --help": ["-m", "robustcl.certify", "--help"],
        "robustcl --help": ["-m", "robustcl", "--help"],
        "certify run --help": ["-m", "robustcl.certify", "run", "--help"],
        "robustcl train --help": ["-m", "robustcl", "train", "--help"],
        "certify methods": ["-m", "robustcl.certify", "methods"],
        "import torch": ["-c", "import torch"],
        "lower the network": ["-c", LOWER],
        "certify run, until the first image": ["-c", UNTIL, *RUN, "never"],
        "certify run, 2 images": ["-m", "robustcl.certify", *RUN],
        "robustcl report of it": ["-m", "robustcl", "report", "run-0"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(options.repeats):
        for name, words in commands.items():
            more = [f"run-{turn}"] if words[-1] == "--out" else []
            times[name].append(processor_seconds([*words, *more], work))
            never = work / "never"
            for place in sorted(never.rglob("*"), reverse=True) if never.exists() else ():
                place.rmdir() if place.is_dir() else place.unlink()
    plain = {name: round(statistics.median(found), 3) for name, found in times.items()}
    hidden = (str(options.work), str(options.out))
    result = {"processor_seconds": plain, "repeats": options.repeats}
    record({**result, **provenance(hidden=hidden)}, options.out)


if __name__ == "__main__":
    main()
