"""Send 100,000 images through `certify run`: memory, and time beside a bare loop.

The training file of the data is repeated (`--repeat`), so that N images are read and decoded from
parquet. `certify run` with cheap certificates and a bare loop (read, decode, predict, certify, and
nothing else) run in turn, each in a process of its own on one thread; in both glibc keeps freed
memory. `peak_mib` is the most memory resident in the process; `work_s` is processor time from the
first line of `main` on, imports left out; `ratio` is the bare loop's over that of `certify run`,
per pair of runs. Linux only.

Run: python benchmarks/hundred_thousand.py --data PATH --checkpoint FILE --work DIR [--out FILE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

ROOT = Path(__file__).resolve().parents[1]
METHODS = "product"
BATCH = 128
OURS = """
import resource, sys, time
from robustcl.cli.main import certify
import robustcl.evaluation.measuring, robustcl.report
begun = time.process_time()
code = certify(sys.argv[1:])
print(time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
raise SystemExit(code)
"""
BARE = """
import resource, sys, time
import torch
from robustcl import certify
from robustcl.core.freed_memory import keep_freed_memory
from robustcl.models.checkpoint import load_checkpoint
from robustcl.data import load_data
begun = time.process_time()
keep_freed_memory()
model = load_checkpoint(sys.argv[1]).classifier.eval()
dataset = load_data(sys.argv[2], limit=int(sys.argv[3]), draw="first")
ready = [(name, certify.prepare(certify.parse_method(name), model, norm='l2'))
         for name in sys.argv[4].split(',')]
for batch in dataset.batches(int(sys.argv[5])):
    with torch.no_grad():
        model(batch.images)
    for name, prepared in ready:
        certify.certificate(certify.parse_method(name), model, batch.images, norm='l2',
                            seeds=batch.index.tolist(), prepared=prepared)
print(time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def child(program: str, *words: str) -> tuple[float, float]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds, peak = done.stdout.strip().splitlines()[-1].split()
    return float(seconds), float(peak)


def repeated(data: Path, work: Path, times: int) -> Path:
    folder = work / "repeated"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(times):
        place = folder / f"test-{number:05d}-of-{times:05d}.parquet"
        if not place.exists():
            place.symlink_to((data / "train.parquet").resolve())
    return folder


def main() -> None:
    from benchmarks.provenance import provenance, record

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="folder with train.parquet")
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--work", required=True, type=Path, help="a new folder")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--counts", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--pairs", type=int, default=3, help="of runs at the largest count")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    spec = f"parquet:{repeated(options.data, options.work, options.repeat)}"
    hidden = tuple(str(v) for v in (options.data, options.checkpoint, options.work))
    found: dict[str, Any] = {"methods": METHODS, "batch_size": BATCH, "runs": []}
    for count in options.counts:
        for turn in range(options.pairs if count == max(options.counts) else 1):
            folder = options.work / f"run-{count}-{turn}"
            words = (
                "--limit",
                str(count),
                "--methods",
                METHODS,
                "--attack",
                "none",
                "--no-test-certificates",
                "--quiet",
            )
            ours, peak = child(
                OURS, "run", str(options.checkpoint), "--data", spec, "--out", str(folder),
                "--batch-size", str(BATCH), *words,
            )  # fmt: skip
            bare, bare_peak = child(
                BARE, str(options.checkpoint), spec, str(count), METHODS, str(BATCH)
            )
            manifest = json.loads((folder / "manifest.json").read_text())
            assert manifest["complete"] and manifest["num_examples"] == count
            one = {"images": count, "work_s": round(ours, 2), "bare_s": round(bare, 2)}
            one |= {"ratio": round(bare / ours, 4), "peak_mib": round(peak)}
            one |= {"bare_mib": round(bare_peak)}
            print(json.dumps(one), flush=True)
            found["runs"].append(one)
    ratios = [run["ratio"] for run in found["runs"] if run["images"] == max(options.counts)]
    found |= {"median_ratio": statistics.median(ratios), **provenance(hidden=hidden)}
    record(found, options.out)


if __name__ == "__main__":
    main()
