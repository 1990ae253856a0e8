"""Time commands whose freed memory glibc keeps, beside commands for which it does as it likes.

Both run in turn, each in a process of its own on one thread; `GLIBC_TUNABLES` without an entry is a
choice of the environment, which the commands let stand. `ratio` is processor time without over time
with, a median over pairs with its range; `faults` are page faults, `peak_mib` the most memory
resident. Linux with glibc only.

Run: python benchmarks/freed_memory.py --data PATH --checkpoint FILE --work DIR [--out FILE]
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import resource, sys
import robustcl.evaluation.measuring, robustcl.workflows.train, robustcl.report
from robustcl import cli
before = resource.getrusage(resource.RUSAGE_SELF)
code = getattr(cli, sys.argv[1])(sys.argv[2:])
after = resource.getrusage(resource.RUSAGE_SELF)
seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(seconds, after.ru_minflt - before.ru_minflt, after.ru_maxrss / 1024)
raise SystemExit(code)
"""


def child(words: list[str], *, keeps: bool) -> tuple[float, int, float]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    mine = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC")}
    mine |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    mine |= {} if keeps else {"GLIBC_TUNABLES": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env=mine, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
    )  # fmt: skip
    seconds, faults, peak = done.stdout.strip().splitlines()[-1].split()
    return float(seconds), int(faults), float(peak)


def main() -> None:
    from benchmarks.provenance import provenance, record

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--work", required=True, type=Path, help="a new folder")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data, jobs = ("--data", f"parquet:{options.data}"), {}
    jobs["certify run --methods product, 4,096 images"] = (
        *("certify", "run", str(options.checkpoint), *data, "--limit", "4096", "--quiet"),
        *("--methods", "product", "--attack", "none", "--no-test-certificates"),
    )
    for arch, limit in (("strided_convnet", "2048"), ("cifar_resnet18", "256")):
        jobs[f"robustcl train --arch {arch}, {limit} images"] = (
            *("robustcl", "train", *data, "--limit", limit, "--epochs", "1", "--arch", arch),
            *("--measure-every", "0", "--quiet"),
        )
    found = []
    for job, words in jobs.items():
        turns = []
        for turn in range(options.pairs):
            place = options.work / f"{len(found)}-{turn}"
            ends = "" if words[0] == "certify" else "/model.safetensors"
            pair = [
                child([*words, "--out", f"{place}-{keeps}{ends}"], keeps=keeps)
                for keeps in (True, False)
            ]
            turns.append(pair)
        ratios = sorted(without[0] / kept[0] for kept, without in turns)
        one = {"job": job, "pairs": options.pairs, "ratio": round(statistics.median(ratios), 3)}
        one |= {"range": [round(ratios[0], 3), round(ratios[-1], 3)]}
        for which, name in enumerate(("kept", "default")):
            one[name] = {
                "seconds": round(statistics.median(pair[which][0] for pair in turns), 2),
                "faults": round(statistics.median(pair[which][1] for pair in turns)),
                "peak_mib": round(max(pair[which][2] for pair in turns)),
            }
        print(one, flush=True)
        found.append(one)
    hidden = tuple(str(v) for v in (options.data, options.checkpoint, options.work, options.out))
    record({"jobs": found, **provenance(hidden=hidden)}, options.out)


if __name__ == "__main__":
    main()
