"""Build many malformed inputs and run a command on each."""

import importlib
import os
import pickle
import pkgutil
import random
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import robustcl
from robustcl import attacks, certify
from tests.fuzz import kinds_built, kinds_data, kinds_files, kinds_places, kinds_texts
from tests.fuzz.case import Case, Ended, Outcome
from tests.fuzz.isolated import run_forked
from tests.fuzz.judge import faults_of
from tests.fuzz.registry import KINDS
from tests.fuzz.surroundings import difference, snapshot

MODULES = (
    kinds_built,
    kinds_data,
    kinds_files,
    kinds_places,
    kinds_texts,
)  # imported for what they register
Run = Callable[[Case, Path], Ended]
LIBRARIES = (
    *("seaborn", "sklearn.metrics", "sklearn.datasets", "scipy.stats", "scipy.special", "pandas"),
    *("torch.export", "torchvision", "torchvision.io", "pyarrow.parquet", "PIL.PngImagePlugin"),
    *("matplotlib.backends.backend_agg", "jinja2", "tyro", "timm", "torchattacks", "rich.progress"),
)
APART = 1_000_003  # between the seeds of two campaigns


def seeds_of(count: int, seed: int) -> list[int]:
    """List the seeds of a campaign; those of a shorter one come first."""
    return [seed * APART + k for k in range(count)]


def run_one(
    seed: int,
    folder: Path,
    good: Path,
    *,
    kinds: str = "",
    keep: bool = False,
    run: Run = run_forked,
) -> Outcome:
    """Build the input of a seed, run its command and judge how that ended.

    Args:
        seed: Which input.
        folder: Is made for it.
        good: Of the originals.
        kinds: Only kinds with this text in their name.
        keep: Whether the folder stays.
        run: Runs the command.

    Returns:
        The outcome.
    """
    draws = random.Random(seed)
    chosen = [kind for kind in KINDS.values() if kinds in kind.name]
    kind = draws.choices(chosen, [one.share for one in chosen])[0]
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "home").mkdir(parents=True)
    try:
        case = kind.build(draws, folder, good)
        apart = (case.out, *case.kept)
        before = snapshot(folder, without=apart)
        ended = run(case, folder)
        changed = difference(before, snapshot(folder, without=apart))
        return Outcome(kind.name, seed, case, ended, tuple(faults_of(case, ended, changed)))
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def campaign(
    seeds: Sequence[int], good: Path, place: Path, *, jobs: int, kinds: str = ""
) -> list[Outcome]:
    """Run many inputs in several processes, each forked from this one.

    Args:
        seeds: Which inputs.
        good: Of the originals.
        place: Where the folders of inputs are made.
        jobs: Processes.
        kinds: Only kinds with this text in their name.

    Returns:
        The outcomes, by seed.
    """
    load_package()
    workers = [_started(seeds[k::jobs], good, place / f"job-{k}", kinds) for k in range(jobs)]
    found: list[Outcome] = []
    for process, stream in workers:
        with os.fdopen(stream, "rb") as results:
            while True:
                try:
                    found.append(pickle.load(results))
                except EOFError:
                    break
        os.waitpid(process, 0)
    if len(found) != len(seeds):
        raise RuntimeError(f"{len(seeds) - len(found)} inputs were not built")
    return sorted(found, key=lambda one: one.seed)


def load_package() -> None:
    """Load everything that commands load, before anything is forked."""
    import torch

    torch.set_num_threads(1)
    for package in (attacks, certify, robustcl):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # Peers load packages that no malformed input is about, and modules that run are not
            # imported.
            if "peers" not in module.name and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(name)


def _started(seeds: Sequence[int], good: Path, folder: Path, kinds: str) -> tuple[int, int]:
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    try:
        with os.fdopen(writing, "wb") as results:
            for seed in seeds:
                try:
                    found = run_one(seed, folder, good, kinds=kinds)
                except Exception as error:  # noqa: BLE001 - a fault of the harness, counted below
                    sys.stderr.write(f"seed {seed} was not built: {error!r:.300}\n")
                    continue
                if found.faults:
                    sys.stderr.write(f"seed {seed}, {found.kind}: {found.faults[0]:.300}\n")
                results.write(pickle.dumps(found))
                results.flush()
    finally:
        os._exit(0)


def table(outcomes: Sequence[Outcome]) -> tuple[str, dict[str, Any]]:
    """Count outcomes by kind.

    Args:
        outcomes: All of them.

    Returns:
        A table, and its numbers.
    """
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for one in outcomes:
        kinds[one.kind]["inputs"] += 1
        kinds[one.kind][f"code {one.ended.code}"] += 1
        kinds[one.kind]["faults"] += bool(one.faults)
    codes = sorted({key for counts in kinds.values() for key in counts if key.startswith("code")})
    heads = ["inputs", *codes, "faults"]
    lines = [f"{'kind':64}" + "".join(f"{head:>10}" for head in heads)]
    for name in sorted(kinds):
        lines.append(f"{name:64}" + "".join(f"{kinds[name][head]:>10}" for head in heads))
    total = sum(kinds.values(), Counter[str]())
    lines.append(f"{'all':64}" + "".join(f"{total[head]:>10}" for head in heads))
    slowest = max(outcomes, key=lambda one: one.ended.seconds)
    largest = max(outcomes, key=lambda one: one.ended.mebibytes)
    lines.append(f"slowest {slowest.ended.seconds:.1f} s ({slowest.kind}, seed {slowest.seed})")
    lines.append(f"largest {largest.ended.mebibytes:.0f} MiB ({largest.kind}, seed {largest.seed})")
    plain = {
        "inputs": total["inputs"],
        "faults": total["faults"],
        "kinds": {name: dict(counts) for name, counts in sorted(kinds.items())},
        "slowest_seconds": round(slowest.ended.seconds, 1),
        "largest_mebibytes": round(largest.ended.mebibytes),
        "written": time.strftime("%Y-%m-%d"),
    }
    return "\n".join(lines), plain
