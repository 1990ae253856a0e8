"""Make the tables of a report, and write them as CSV, Markdown and LaTeX."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false

from pathlib import Path

import pandas as pd

from robustcl.core.output_folder import OutputFolder
from robustcl.records.images import per_image
from robustcl.records.reading import Run
from robustcl.records.summary import Summary
from robustcl.report.budget import budget_table
from robustcl.report.escape import csv_cell, latex_cell, markdown_cell

# What the columns are called where the data has no labels: nothing there is an accuracy.
SHARES = {
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
    images = per_image(run).reset_index()
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
    return {name: table.rename(columns=SHARES) for name, table in found.items()}


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
