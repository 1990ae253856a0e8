"""Stop commands at random moments, resume them each time, and compare the results at the end.

`certify run`, `robustcl attack`, `train`, `multiview` and `bench` each run once without
interruption. Then they start again in a new folder and are stopped at a random moment of the run
(seed 0), start-up included. They are resumed by the same command and `--resume`, and so on. A run
that ends before it is stopped counts as one run, and the next one begins in a new folder; the last
resume is left to end by itself. Each finished run must have the results of the first: records
sorted by kind, method and index, arrays, weights, training log, metrics of cells and figures of a
study, all apart from times, sessions and checksums. After SIGTERM, SIGINT and SIGHUP the exit code
must be 128 and the signal's number, and nothing like a traceback may be told.

With `--full-disk` the folder is a small memory disk that runs full in the middle (this needs the
right to mount one): the exit code must be 6, with one error line; the disk is then made larger, and
the command resumed. Commands that write one file must leave nothing half-written.

Run: python benchmarks/kill_and_resume.py --work DIR [--kills 20] [--signals 4] [--full-disk]
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provenance import provenance, record
from benchmarks.resumable_jobs import COMMON, FILES, JOBS, SUITE, Job, same

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = (
    "import sys; from robustcl.cli.main import {0}; sys.argv[0] = '{0}'; raise SystemExit({0}())"
)


@dataclass
class Stops:
    """Hold what happened to a job.

    Args:
        times: Seconds after its start at which each session was stopped.
        folders: Of the runs that ended.
        wrong: Exit codes and words that should not have been.
    """

    times: list[float] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def launch(
    words: Sequence[str], checkpoint: Path, *more: str, **environment: str
) -> subprocess.Popen[bytes]:
    """Start a command of the project in a process of its own.

    Args:
        words: The program's name and its arguments; CHECKPOINT stands for the file, and SUITE for
            suite.toml beside it.
        checkpoint: The file.
        *more: Further arguments.
        **environment: Further variables of the environment.

    Returns:
        The process.
    """
    stand = {"CHECKPOINT": str(checkpoint), "SUITE": str(checkpoint.with_name("suite.toml"))}
    arguments = [stand.get(word, word) for word in words[1:]]
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


def _start(job: Job, checkpoint: Path, folder: Path) -> subprocess.Popen[bytes]:
    # Start a job in a folder, or go on with it there.
    resumed = any((folder / name).exists() for name in job.begun)
    more = ("--resume",) if resumed else ()
    return launch(job.words, checkpoint, "--out", str(folder / job.out), *more)


def stopped(
    job: Job, checkpoint: Path, work: Path, kinds: Sequence[signal.Signals], seconds: float
) -> Stops:
    """Stop a job again and again, and let the last resume end.

    Args:
        job: The job.
        checkpoint: The model.
        work: Where folders are made.
        kinds: The signals, one after the other.
        seconds: That a run takes which is not stopped.

    Returns:
        What happened.
    """
    draws, found, left = random.Random(0), Stops(), list(kinds)
    ended = True
    while left or not ended:
        if ended:
            found.folders.append(work / f"stopped-{len(found.folders)}")
            found.folders[-1].mkdir(parents=True)
        begun = time.monotonic()
        process = _start(job, checkpoint, found.folders[-1])
        if left:
            try:
                process.wait(draws.uniform(0.0, seconds))
            except subprocess.TimeoutExpired:
                kind = left.pop(0)
                process.send_signal(kind)
                found.times.append(round(time.monotonic() - begun, 1))
        _, words = process.communicate()
        ended = process.returncode == 0
        if not ended:
            found.wrong += _judged(process.returncode, words.decode(), kinds)
            if found.wrong and not left:
                break
    return found


def _judged(code: int, words: str, kinds: Sequence[signal.Signals]) -> list[str]:
    right = {-signal.SIGKILL} if signal.SIGKILL in kinds else {128 + kind for kind in kinds}
    if code not in right:
        return [f"exit code {code}: {words[-300:]}"]
    return [f"traceback: {words[-300:]}"] if "Traceback" in words else []


def measured(
    job: Job, checkpoint: Path, work: Path, stops: dict[str, Sequence[signal.Signals]]
) -> list[dict[str, Any]]:
    """Stop one job, by each set of signals.

    Args:
        job: The job.
        checkpoint: The model.
        work: Where folders are made.
        stops: By name.

    Returns:
        Plain numbers for each.
    """
    whole = work / "whole"
    whole.mkdir(parents=True)
    begun = time.monotonic()
    finished(_start(job, checkpoint, whole))
    seconds, expected = time.monotonic() - begun, job.results(whole)
    names = {str(place.relative_to(whole)) for place in whole.rglob("*")}
    rows = []
    for name, kinds in stops.items():
        found = stopped(job, checkpoint, work / name, kinds, seconds)
        left = sorted({str(p.relative_to(f)) for f in found.folders for p in f.rglob("*")} - names)
        equal = [same(job.results(folder), expected) for folder in found.folders]
        rows.append({
            "command_stopped": " ".join(job.words),
            "stopped_by": name,
            "stops": len(found.times),
            "runs": len(found.folders),
            "results_equal": all(equal),
            "wrong": found.wrong,
            "files_left": left,
            "stopped_after_seconds": found.times,
            "seconds_whole": round(seconds, 1),
        })
        shutil.rmtree(work / name)
    return rows


def disk(place: Path, size: int, *, again: bool = False) -> None:
    """Mount a memory disk of a size in bytes, or change its size."""
    options = f"{'remount,' if again else ''}size={max(size // 4096, 1) * 4096}"
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)


def filled(job: Job, checkpoint: Path, work: Path, shares: Sequence[float]) -> dict[str, Any]:
    """Run a job on disks that run full, make them larger, and go on.

    Args:
        job: The job.
        checkpoint: The model.
        work: Where folders are made.
        shares: Sizes of the disks, as shares of what a run writes.

    Returns:
        Plain numbers.
    """
    whole = work / "whole"
    whole.mkdir(parents=True)
    finished(_start(job, checkpoint, whole))
    expected = job.results(whole)
    size = sum(-(-p.stat().st_size // 4096) * 4096 for p in whole.rglob("*") if p.is_file())
    codes, equal, wrong = [], [], list[str]()
    for share in shares:
        place = work / f"disk-{share}"
        disk(place, int(share * size))
        try:
            process = _start(job, checkpoint, place)
            _, words = process.communicate()
            codes.append(process.returncode)
            lines = [line for line in words.decode().splitlines() if line.startswith("error")]
            if process.returncode and (len(lines) != 1 or "Traceback" in words.decode()):
                wrong.append(words.decode()[-300:])
            if job.out and not job.begun and any(place.iterdir()):
                wrong.append(f"left {sorted(p.name for p in place.iterdir())}")
            disk(place, 64 * size + 2**24, again=True)
            finished(_start(job, checkpoint, place))
            equal.append(same(job.results(place), expected))
        finally:
            subprocess.run(["umount", str(place)], check=False)
    return {
        "command_stopped": " ".join(job.words),
        "stopped_by": "full disk",
        "disks_as_shares": list(shares),
        "exit_codes": codes,
        "results_equal": all(equal),
        "wrong": wrong,
        "bytes_written": size,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True, help="an empty folder for runs")
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs of each command")
    parser.add_argument("--signals", type=int, default=4, help="of each other kind and command")
    parser.add_argument("--full-disk", action="store_true")
    parser.add_argument("--jobs", nargs="*", default=[job.name for job in (*JOBS, *FILES)])
    parser.add_argument("--out", type=Path, help="append the JSON lines here")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    checkpoint = options.work / "model.safetensors"
    training = ("robustcl", "train", *COMMON, "--epochs", "10", "--label-weight", "0.8")
    finished(launch(training, checkpoint, "--out", str(checkpoint)))
    (options.work / "suite.toml").write_text(SUITE)
    hidden = (str(options.work), str(options.out))
    stops: dict[str, Sequence[signal.Signals]] = {"SIGKILL": [signal.SIGKILL] * options.kills}
    for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        stops[kind.name] = [kind] * options.signals
    stops = {name: kinds for name, kinds in stops.items() if kinds}
    for job in (*JOBS, *FILES):
        if job.name not in options.jobs:
            continue
        work = options.work / job.name.replace(" ", "-")
        if job in JOBS:
            for row in measured(job, checkpoint, work, stops):
                record({**row, **provenance(hidden=hidden)}, options.out)
        if options.full_disk:
            row = filled(job, checkpoint, work / "full", (0.3, 0.6, 0.9))
            record({**row, **provenance(hidden=hidden)}, options.out)


if __name__ == "__main__":
    main()
