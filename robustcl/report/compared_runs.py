"""Put several runs side by side: tables with one row per run, certificate or attack."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from robustcl.core.errors import RunError
from robustcl.records.images import is_labeled
from robustcl.records.reading import Run, load_run
from robustcl.records.summary import Summary, summarize


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """Hold one of several runs.

    Args:
        label: What tables call it; runs of other seeds share it.
        run: The run.
        summary: Of the run.
        seed: Of the run.
    """

    label: str
    run: Run
    summary: Summary
    seed: int

    @property
    def data(self) -> str:
        """Name of the data set."""
        return str(self.run.manifest.get("config", {}).get("data", "–"))


def compared_run(folder: Path, label: str) -> ComparedRun:
    """Read and summarize a run.

    Args:
        folder: The run folder.
        label: What it is called.

    Returns:
        The run.

    Raises:
        RunError: When its data has no labels.
    """
    run = load_run(folder)
    if not is_labeled(run):
        raise RunError(f"{str(folder)!r} is of data without labels; compare runs with labels")
    seed = int(run.manifest.get("config", {}).get("seed", 0))
    return ComparedRun(label, run, summarize(run), seed)


def run_labels(folders: Sequence[Path]) -> list[str]:
    """Name runs by their folders, by as few of the last parts as tell them apart.

    Args:
        folders: The run folders.

    Returns:
        One name per folder.
    """
    parts = [folder.resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(part) for part in parts]


def runs_table(runs: Sequence[ComparedRun]) -> pd.DataFrame:
    """Make a table with one row per run.

    Args:
        runs: The runs.

    Returns:
        Rates in [0, 1] at `radius`, the smallest eps of the run; radii in pixel units.
    """
    rows = []
    for one in runs:
        found = one.summary
        low, high = found.interval95 or (None, None)
        rows.append({
            "run": one.label, "data": one.data, "seed": one.seed, "norm": found.norm,
            "n": found.n, "clean_accuracy": found.clean_accuracy,
            "low95": low, "high95": high,
            "radius": found.headline_radius, "certified_accuracy": found.headline_certified,
            "attacked_accuracy": found.headline_attacked,
            "median_certified_radius": found.median_certified_radius,
            "median_attacked_radius": found.median_attacked_radius,
            "violations": len(found.violations), "seconds": found.seconds,
        })  # fmt: skip
    return pd.DataFrame(rows)


def certificates_table(runs: Sequence[ComparedRun]) -> pd.DataFrame:
    """Make a table with one row per run and certificate.

    Args:
        runs: The runs.

    Returns:
        The table; estimates have no certified accuracy.
    """
    return pd.DataFrame([
        {
            "run": one.label, "seed": one.seed, "norm": one.summary.norm, "method": name,
            "guarantee": entry["guarantee"], "subject": entry["subject"],
            "radius": one.summary.headline_radius, "certified_accuracy": entry["at_headline"],
            "median_radius": entry["median"],
            "ms_per_image": 1e3 * entry["seconds"] / max(entry["n"], 1),
        }
        for one in runs
        for name, entry in one.summary.by_method.items()
    ])  # fmt: skip


def attacks_table(runs: Sequence[ComparedRun]) -> pd.DataFrame:
    """Make a table with one row per run and attack.

    Args:
        runs: The runs.

    Returns:
        The table; an infinite median says that half of the images withstood the attack.
    """
    return pd.DataFrame([
        {
            "run": one.label, "seed": one.seed, "norm": one.summary.norm, "attack": name,
            "radius": one.summary.headline_radius, "attacked_accuracy": entry["at_headline"],
            "median_radius": entry["median"],
            "gradients_per_image": entry["gradients"] / max(entry["n"], 1),
            "ms_per_image": 1e3 * entry["seconds"] / max(entry["n"], 1),
        }
        for one in runs
        for name, entry in one.summary.by_attack.items()
    ])  # fmt: skip


def curves_table(runs: Sequence[ComparedRun]) -> pd.DataFrame:
    """Make a table of all curves.

    Args:
        runs: The runs.

    Returns:
        One row per run, side (certified or attacked) and radius.
    """
    sides = ("certified", "attacked")
    rows = [
        {"run": one.label, "seed": one.seed, "norm": one.summary.norm, "side": side}
        | {"radius": radius, "accuracy": accuracy}
        for one in runs
        for side in sides
        for radius, accuracy in getattr(one.summary, f"{side}_accuracy")
    ]
    return pd.DataFrame(rows)
