"""Share a run between processes: how much sooner two end than one, and what kills cost.

Two measurements of `certify run`, whose processes are started here with RANK and WORLD_SIZE as
torchrun starts them:

* `speed`: two processes of one thread each against one process pinned to one core, in turn;
  wall-clock time from start to exit, imports included, and inside the run (`seconds_inside`, from
  the manifest, of the last process). The records must be equal.
* `kills`: two processes; after a random time one of them, chosen at random, gets a SIGKILL and the
  other is left to end; then one to three processes resume the run and one of these is killed, and
  so on. The last resume is left to end. Records and arrays must be those of one process.

Run: python benchmarks/ranks.py --work DIR [--only speed kills] [--out FILE]
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.kill_and_resume import finished, launch
from benchmarks.provenance import provenance, record
from benchmarks.resumable_jobs import plain_records, same_arrays, whole_lines

SPEED = (
    *("certify", "run", "CHECKPOINT", "--data", "digits", "--quiet", "--batch-size", "16"),
    *("--methods", "product,smoothing:sigma=.25,n=2000,form=mean"),
    *("--attack", "pgd", "--eps", "0.3,1"),
)
KILLS = (
    *("certify", "run", "CHECKPOINT", "--data", "digits", "--quiet", "--batch-size", "8"),
    *("--limit", "192", "--eps", "0.2,2"),
    *("--methods", "product,smoothing:sigma=.25,n=500,form=mean", "--attack", "deepfool,fmn"),
)


def launched(
    words: tuple[str, ...], checkpoint: Path, count: int, *more: str
) -> list[subprocess.Popen[bytes]]:
    return [
        launch(words, checkpoint, *more, RANK=str(k), WORLD_SIZE=str(count), OMP_NUM_THREADS="1")
        for k in range(count)
    ]


def timed(checkpoint: Path, folder: Path, count: int) -> tuple[float, float]:
    begun = time.monotonic()
    processes = launched(SPEED, checkpoint, count, "--out", str(folder))
    if count == 1:
        subprocess.run(["taskset", "-ap", "0x1", str(processes[0].pid)], check=True, stdout=-3)
    for process in processes:
        finished(process)
    wall = time.monotonic() - begun
    return wall, float(json.loads((folder / "manifest.json").read_text())["seconds"])


def speed(checkpoint: Path, options: argparse.Namespace) -> dict[str, Any]:
    rows, equal = [], True
    for turn in range(options.pairs):
        times = {}
        for count in (1, 2) if turn % 2 else (2, 1):
            times[count] = timed(checkpoint, options.work / f"speed-{count}", count)
        one, two = (plain_records(options.work / f"speed-{count}") for count in (1, 2))
        equal = equal and one == two
        for count in (1, 2):
            shutil.rmtree(options.work / f"speed-{count}")
        ratio, inside = (times[1][k] / times[2][k] for k in (0, 1))
        rows.append({"one_s": times[1][0], "two_s": times[2][0], "ratio": ratio, "inside": inside})
        print(json.dumps({key: round(value, 3) for key, value in rows[-1].items()}), flush=True)
    found = {key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]}
    return {"measured": "speed", "command_run": " ".join(SPEED), "pairs": len(rows), **found,
            "ratios": [round(row["ratio"], 3) for row in rows], "records_equal": equal}  # fmt: skip


def kills(checkpoint: Path, options: argparse.Namespace) -> dict[str, Any]:
    draws, whole, begun = random.Random(0), options.work / "whole", time.monotonic()
    finished(launch(KILLS, checkpoint, "--out", str(whole)))
    span = time.monotonic() - begun
    expected, folders, at = plain_records(whole), [], []
    while len(at) < options.kills:
        folder = options.work / f"killed-{len(folders)}"
        folders.append(folder)
        while not (folder.exists() and _complete(folder)):
            more = ("--resume",) if (folder / "manifest.json").exists() else ()
            count = draws.randint(1, 3) if more else 2
            processes = launched(KILLS, checkpoint, count, "--out", str(folder), *more)
            victim = draws.randrange(count)
            time.sleep(draws.uniform(0.15, 0.9) * span)
            if len(at) < options.kills and processes[victim].poll() is None:
                processes[victim].kill()
                at.append(whole_lines(folder) if folder.exists() else 0)
                if victim == 0 and not (folder / "manifest.json").exists():
                    for process in processes:  # nobody would make the folder that they wait for
                        process.kill()
            for number, process in enumerate(processes):
                process.communicate()
                if process.returncode > 0:
                    raise RuntimeError(f"process {number} ended with {process.returncode}")
    return {
        "measured": "kills",
        "command_killed": " ".join(KILLS),
        "kills": len(at),
        "runs": len(folders),
        "records": len(expected),
        "records_equal": all(plain_records(folder) == expected for folder in folders),
        "arrays_equal": all(same_arrays(whole, folder) for folder in folders),
        "records_at_kills": at,
    }


def _complete(folder: Path) -> bool:
    place = folder / "manifest.json"
    return place.exists() and bool(json.loads(place.read_text()).get("complete"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder for runs")
    parser.add_argument("--only", nargs="*", default=["speed", "kills"], choices=["speed", "kills"])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--out", type=Path, help="append the JSON lines here")
    options = parser.parse_args()
    checkpoint = options.work / "model.safetensors"
    training = ("robustcl", "train", "--data", "digits", "--epochs", "10", "--quiet")
    finished(launch((*training, "--label-weight", "0.8"), checkpoint, "--out", str(checkpoint)))
    for name in options.only:
        found = (speed if name == "speed" else kills)(checkpoint, options)
        hidden = (str(options.work), str(options.out))
        record({**found, **provenance(hidden=hidden)}, options.out)


if __name__ == "__main__":
    main()
