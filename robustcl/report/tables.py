"""Make the tables of a report, and write them as CSV, Markdown and LaTeX."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from robustcl.core.output_folder import OutputFolder
from robustcl.records.images import covered, model_attacks, per_image, sound_certificates
from robustcl.records.reading import Run
from robustcl.records.summary import Summary
from robustcl.report.escape import csv_cell, latex_cell, markdown_cell
from robustcl.report.plots import equal_axes

# What the columns are called where the data has no labels: nothing there is an accuracy.
_SHARES = {
    "accuracy": "predicted_share",
    "certified_accuracy": "certified_share",
    "attacked_accuracy": "attacked_share",
}
MOST_ROWS = 1_000  # of a table that people read; the .csv has all


def tables(run: Run, summary: Summary) -> dict[str, pd.DataFrame]:
    """Make the tables.

    Args:
        run: The run.
        summary: Of the run.

    Returns:
        Tables by name: methods, attacks, estimates, curves, budget, images. Radii are in pixel
        units, rates in [0, 1]; an infinite attacked radius says that nothing was found.
    """
    methods = [
        {"method": name, "norm": summary.norm}
        | {key: entry[key] for key in ("guarantee", "subject", "n", "accuracy", "abstained")}
        | {"median_radius": entry["median"], "radius": summary.headline_radius}
        | {"certified_accuracy": entry["at_headline"], "seconds": entry["seconds"]}
        for name, entry in summary.by_method.items()
    ]
    attacks = [
        {"attack": name, "norm": summary.norm, "subject": entry["subject"], "n": entry["n"]}
        | {"found": entry["found"], "median_radius": entry["median"]}
        | {"eps": summary.headline_radius, "attacked_accuracy": entry["at_headline"]}
        | {"gradients": entry["gradients"], "seconds": entry["seconds"]}
        for name, entry in summary.by_attack.items()
    ]
    against = [{"method": name, **entry} for name, entry in summary.estimates.items()]
    curves = {"certified": summary.certified_accuracy, "attacked": summary.attacked_accuracy}
    curves |= {name: entry["curve"] for name, entry in summary.by_method.items()}
    series = {name: dict(map(tuple, curve)) for name, curve in curves.items() if curve}
    curve_table = pd.DataFrame(series).sort_index().rename_axis("radius").reset_index()
    images = _measured(run).reset_index()
    found = {
        "methods": pd.DataFrame(methods),
        "attacks": pd.DataFrame(attacks),
        "estimates": pd.DataFrame(against),
        "curves": curve_table,
        "budget": budget_table(run),
        "images": images if summary.labeled else images.drop(columns=["label", "correct"]),
    }
    if summary.labeled:
        return found
    return {name: table.rename(columns=_SHARES) for name, table in found.items()}


def _measured(run: Run) -> pd.DataFrame:
    # Of a run within minutes, what has no record of an image is empty, and no radius.
    images = per_image(run)
    if not run.manifest.get("prefixes"):
        return images
    parts = (
        (sound_certificates(run), ["certified", "certified_by"]),
        (model_attacks(run), ["attacked", "attacked_by", "fooled"]),
    )
    for rows, columns in parts:
        known = covered(rows, images).index if len(rows) else images.index[:0]
        images[columns] = images[columns].astype(object)
        images.loc[~images.index.isin(known), columns] = None
    return images


def write_tables(folder: Path, found: dict[str, pd.DataFrame]) -> None:
    """Write every table as NAME.csv, NAME.md and NAME.tex, the latter two up to 1,000 rows.

    Args:
        folder: The output folder; tables go into its folder tables/.
        found: Tables by name; those without rows are written with their header, if any.
    """
    files = dict[str, str]()
    for name, table in found.items():
        files[f"tables/{name}.csv"] = _csv(table)
        read, left = table.head(MOST_ROWS), max(len(table) - MOST_ROWS, 0)
        more = f"{left:,} more rows: {name}.csv\n" if left else ""
        for ending, text, note in (("md", markdown(read), "\n"), ("tex", latex(read), "% ")):
            whole = text + (note + more if more else "")
            files[f"tables/{name}.{ending}"] = whole
    output = OutputFolder(folder)
    output.claim(*files)
    for name, text in files.items():
        output.write_text(name, text)


def _csv(table: pd.DataFrame) -> str:
    safe = table.rename(columns=csv_cell)
    for name in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[name]):
            cells = [csv_cell(value) for value in safe[name]]
            safe[name] = pd.Series(cells, index=safe.index, dtype=object)
    return safe.to_csv(index=False)


def markdown(table: pd.DataFrame) -> str:
    """Write a table in Markdown.

    Args:
        table: The table.

    Returns:
        The text, numbers with four significant digits.
    """
    if not len(table.columns):
        return "(nothing measured)\n"
    head, *body = _rows(table)
    rows = [head, ["---"] * len(head), *body]
    lines = (" | ".join(markdown_cell(cell) for cell in row) for row in rows)
    return "".join(f"| {line} |\n" for line in lines)


def latex(table: pd.DataFrame) -> str:
    """Write a table in LaTeX, with nothing but tabular and hline.

    Args:
        table: The table.

    Returns:
        The text, numbers with four significant digits.
    """
    if not len(table.columns):
        return "% nothing measured\n"
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]
    lines = [" & ".join(latex_cell(cell) for cell in row) + r" \\" for row in _rows(table)]
    return "\n".join([
        f"\\begin{{tabular}}{{{''.join('r' if right else 'l' for right in numeric)}}}",
        r"\hline",
        *(lines[0], r"\hline", *lines[1:]),
        r"\hline",
        "\\end{tabular}\n",
    ])


def _rows(table: pd.DataFrame) -> list[list[str]]:
    body = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return [[str(column) for column in table.columns], *body]


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN is the one value unlike itself
        return "–"
    return f"{value:.4g}".replace("inf", "∞") if isinstance(value, float) else str(value)


RADIUS_UNITS = ("gradients", "forwards", "seconds")
_COLUMNS = ("kind", "method", "stage", "images", *RADIUS_UNITS)
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
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _row(kind: str, method: str, stage: str, part: pd.DataFrame) -> dict[str, object]:
    spent = {unit: _total(part, unit) for unit in RADIUS_UNITS}
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


def estimates(
    ax: Axes,
    *,
    reference_label: str,
    values: Mapping[str, tuple[np.ndarray, np.ndarray]],
    log: bool,
    floor: float,
    radius_label: str,
) -> None:
    """Draw one mark per image and estimate; above an attacked radius the estimate is wrong.

    Args:
        ax: Where to draw.
        reference_label: What the radii across are: attacked, or the best certified.
        values: By label, finite radii (N,) and estimates (N,); infinite ones lie at the upper edge.
        log: Whether both axes are logarithmic.
        floor: On logarithmic axes, where smaller radii are drawn.
        radius_label: Norm and units.
    """
    low = floor if log else 0.0
    sides = np.concatenate([side for pair in values.values() for side in pair])
    high = 1.05 * float(max([low, *sides[np.isfinite(sides)]]))
    ax.plot([low, high], [low, high], color="0.5", linewidth=0.9, zorder=1, label="equal")
    for number, (label, (reference, found)) in enumerate(values.items()):
        ax.scatter(
            np.maximum(reference, low), np.clip(found, low, high), s=12, linewidths=0, alpha=0.6,
            color=("C1", "C4", "C5", "C9")[number % 4], marker="oDs^"[number % 4],
            label=f"{label} (estimate)", clip_on=False,
        )  # fmt: skip
    equal_axes(ax, low=low, high=high, log=log)
    ax.set_xlabel(f"{reference_label} {radius_label}")
    ax.set_ylabel(f"ESTIMATED {radius_label}, not proved")
    ax.legend(loc="lower right", handletextpad=0.2)
