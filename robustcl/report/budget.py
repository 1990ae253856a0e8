"""Account for where the budget went: gradient evaluations, forward passes and seconds."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from robustcl.records.reading import Run

UNITS = ("gradients", "forwards", "seconds")
COLUMNS = ("kind", "method", "stage", "images", *UNITS)
WHOLE = "all"


def budget_table(run: Run) -> pd.DataFrame:
    """Add up what every method spent, and what its stages did.

    Args:
        run: The run.

    Returns:
        One row per method, of stage 'all', followed by its stages: those of a search for the
        smallest perturbation, or, of a screened attack, the images by the stage that decided them.
        NaN where a number was not measured; gradients of certificates are not counted.
    """
    rows = []
    for kind, table in (("clean", run.clean), ("certificate", run.certificates)):
        rows += [_row(kind, str(name), WHOLE, part) for name, part in table.groupby("method")]
    for name, part in run.attacks.groupby("method"):
        rows.append(_row("attack", str(name), WHOLE, part))
        rows += _stages(str(name), part)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(kind: str, method: str, stage: str, part: pd.DataFrame) -> dict[str, object]:
    spent = {unit: _total(part, unit) for unit in UNITS}
    return {"kind": kind, "method": method, "stage": stage, "images": len(part), **spent}


def _total(part: pd.DataFrame, unit: str) -> float:
    known = list(part[unit].dropna()) if unit in part else []
    return float(sum(known)) if known else np.nan


def _stages(method: str, part: pd.DataFrame) -> list[dict[str, object]]:
    spent = pd.DataFrame(list(part["stages"].dropna()))
    times = pd.DataFrame(list(part["stage_seconds"].dropna())).reindex(columns=spent.columns)
    found: list[dict[str, object]] = []
    for stage in spent:
        images, total = int((spent[stage] > 0).sum()), float(spent[stage].sum())
        row = {"kind": "attack", "method": method, "stage": str(stage), "images": images}
        seconds = float(times[stage].sum())
        found.append({**row, "gradients": total, "forwards": np.nan, "seconds": seconds})
    for stage, rows in part[part["decided"].notna()].groupby("decided", sort=False):
        row = _row("attack", method, f"decided: {stage}", rows)
        found.append({**row, "seconds": np.nan})  # a batch is timed as a whole
    return found


def budget(
    ax: Axes, *, labels: Sequence[str], shares: Mapping[str, np.ndarray], texts: Sequence[str]
) -> None:
    """Draw what share of each unit every method took.

    Args:
        ax: Where to draw.
        labels: Methods, from the top.
        shares: (M,) shares in [0, 1] by unit; NaN where it was not measured.
        texts: What is written beside each method.
    """
    places, height = np.arange(len(labels)), 0.8 / len(shares)
    for number, (unit, values) in enumerate(shares.items()):
        ax.barh(
            places + (number - (len(shares) - 1) / 2) * height, np.nan_to_num(values), height,
            color=("C0", "C1", "C2")[number % 3], label=unit, linewidth=0,
        )  # fmt: skip
    longest = np.nan_to_num(np.stack(list(shares.values()))).max(axis=0)
    for place, (end, text) in enumerate(zip(longest, texts, strict=True)):
        ax.text(end + 0.012, place, text, va="center", fontsize=7.5, color="0.35")
    ax.set_yticks(places, list(labels))
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set_xticks(np.linspace(0.0, 1.0, 6))
    ax.set_xlim(0.0, 1.45 * float(longest.max()) if len(longest) else 1.0)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel("share of the run")
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(shares))
