"""Kill a command at random moments, resume it each time, and compare the records at the end.

`certify run` and `robustcl attack` each run once without interruption. Then they start again in a
new folder and get a SIGKILL at a random moment (seed 0): after a random number of further records
and a random time, so that kills are spread over the whole run. They are resumed by the same command
and `--resume`, and so on. A run that ends before all kills are spent counts as one run, and the
next one begins in a new folder; the last resume is left to end by itself. Each finished run must
have the records of the first, apart from times, sessions and checksums, once sorted by kind, method
and index. `stages` says where kills fell, by the number of records on the disk.

Run: python benchmarks/kill_and_resume.py --work DIR [--kills 20] [--out FILE]
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from robustcl.runs.arrays import load_arrays
from robustcl.runs.triples import load_triples

OWN = {"seconds", "stage_seconds", "session", "crc"}  # of a session, not of an image
ROOT = Path(__file__).resolve().parents[1]
PROGRAM = "import sys; from robustcl.cli import {0}; sys.argv[0] = '{0}'; raise SystemExit({0}())"
COMMON = ("--data", "digits", "--quiet", "--batch-size", "8")
COMMANDS: dict[str, tuple[str, ...]] = {
    "certify run": (
        *("certify", "run", "CHECKPOINT", *COMMON, "--limit", "64", "--eps", "0.2,2"),
        *("--methods", "product,smoothing:sigma=.25,n=500,form=mean"),
        *("--attack", "deepfool,fmn"),
    ),
    "robustcl attack": (
        *("robustcl", "attack", "CHECKPOINT", *COMMON, "--limit", "64", "--eps", "0.9"),
        *("--protocol", "standard"),
    ),
}


def launch(
    words: Sequence[str], checkpoint: Path, *more: str, **environment: str
) -> subprocess.Popen[bytes]:
    """Start a command of the project in a process of its own.

    Args:
        words: The program's name and its arguments; CHECKPOINT stands for the file.
        checkpoint: The file.
        *more: Further arguments.
        **environment: Further variables of the environment.

    Returns:
        The process.
    """
    arguments = [str(checkpoint) if word == "CHECKPOINT" else word for word in words[1:]]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(words[0]), *arguments, *more],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finished(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process, and stop where it failed.

    Args:
        process: The process.

    Raises:
        RuntimeError: When its exit code is not 0.
    """
    _, words = process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {words.decode()[-500:]}")


def whole_lines(folder: Path) -> int:
    """Count the records on the disk.

    Args:
        folder: The run folder.

    Returns:
        Their number, a line that was cut off left out.
    """
    return sum(place.read_bytes().count(b"\n") for place in folder.glob("records-*.jsonl"))


def plain_records(folder: Path) -> list[dict[str, Any]]:
    """Read the records without their times.

    Args:
        folder: The run folder.

    Returns:
        The records, sorted by kind, method and index.
    """
    lines = [
        json.loads(line)
        for place in folder.glob("records-*.jsonl")
        for line in place.read_text(encoding="utf-8").splitlines()
    ]
    kept = [{key: line[key] for key in line if key not in OWN} for line in lines]
    return sorted(kept, key=lambda line: (line["kind"], line["method"], line["index"]))


def same_arrays(first: Path, second: Path) -> bool:
    """Compare the arrays of two runs.

    Args:
        first: A run folder.
        second: A run folder.

    Returns:
        Whether they are equal, in any order of rows.
    """
    for name in sorted({place.name.split(".")[0] for place in first.glob("arrays/[!.]*.npz")}):
        pair = [_arrays(folder, name) for folder in (first, second)]
        if pair[0].keys() != pair[1].keys():
            return False
        for key, values in pair[0].items():
            numbers = values.dtype.kind == "f"
            if not np.array_equal(values, pair[1][key], equal_nan=numbers):
                return False
    return True


def _arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    if name == "triples":
        return load_triples(folder)
    return load_arrays(folder, name, shared=("eps", "evaluations", "attack"))


def uninterrupted(words: Sequence[str], checkpoint: Path, folder: Path) -> tuple[float, float]:
    """Run a command to its end.

    Args:
        words: The command.
        checkpoint: The file.
        folder: Where it writes.

    Returns:
        Seconds until the first record, and altogether.
    """
    begun = time.monotonic()
    process = launch(words, checkpoint, "--out", str(folder))
    while process.poll() is None and not whole_lines(folder):
        time.sleep(0.05)
    started = time.monotonic() - begun
    finished(process)
    return started, time.monotonic() - begun


def killed(
    words: Sequence[str],
    checkpoint: Path,
    work: Path,
    kills: int,
    total: int,
    pause: float,
) -> tuple[list[int], list[Path]]:
    """Kill a command again and again, and let the last resume end.

    Args:
        words: The command.
        checkpoint: The file.
        work: Where folders are made.
        kills: How many.
        total: Records of a whole run.
        pause: Seconds at most between a number of records and the kill.

    Returns:
        Records on the disk at each kill, and the folders of the runs that ended.
    """
    draws = random.Random(0)
    counts: list[int] = []
    folders: list[Path] = []
    while len(counts) < kills:
        folder = work / f"killed-{len(folders)}"
        folders.append(folder)
        ended = False
        while not ended:
            more = ("--resume",) if (folder / "manifest.json").exists() else ()
            process = launch(words, checkpoint, "--out", str(folder), *more)
            if len(counts) < kills:
                wanted = whole_lines(folder) + draws.randint(0, 2 * total // kills)
                while process.poll() is None and whole_lines(folder) < wanted:
                    time.sleep(0.01)
                time.sleep(draws.uniform(0.0, pause))
                if process.poll() is None:
                    process.kill()
                    process.communicate()
                    counts.append(whole_lines(folder))
                    continue
            finished(process)
            ended = True
    return counts, folders


def measured(name: str, checkpoint: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Kill one command.

    Args:
        name: A key of `COMMANDS`.
        checkpoint: The model.
        options: Of this script.

    Returns:
        Plain numbers.
    """
    words = COMMANDS[name]
    work = options.work / name.replace(" ", "-")
    whole = work / "whole"
    started, altogether = uninterrupted(words, checkpoint, whole)
    expected = plain_records(whole)
    total, pause = len(expected), (altogether - started) / options.kills
    counts, folders = killed(words, checkpoint, work, options.kills, total, pause)
    return {
        "command_killed": " ".join(words),
        "kills": len(counts),
        "runs": len(folders),
        "records": total,
        "records_equal": all(plain_records(folder) == expected for folder in folders),
        "arrays_equal": all(same_arrays(whole, folder) for folder in folders),
        "stages": counts,
        "kills_in_the_middle": sum(0 < count < total for count in counts),
        "temporary_files_left": sum(
            place.name != ".lock" for folder in folders for place in folder.rglob(".*")
        ),
        "seconds_whole": round(altogether, 1),
        "seconds_to_first_record": round(started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True, help="an empty folder for runs")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS), choices=list(COMMANDS))
    parser.add_argument("--out", type=Path, help="append the JSON lines here")
    options = parser.parse_args()
    checkpoint = options.work / "model.safetensors"
    training = ("robustcl", "train", "--data", "digits", "--epochs", "10", "--quiet")
    finished(launch((*training, "--label-weight", "0.8"), checkpoint, "--out", str(checkpoint)))
    for name in options.commands:
        hidden = (str(options.work), str(options.out))
        record({**measured(name, checkpoint, options), **provenance(hidden=hidden)}, options.out)


if __name__ == "__main__":
    main()
