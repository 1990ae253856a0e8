"""Gather what the cells of a suite measured into tables."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false

import statistics

import pandas as pd

from robustcl.report.suite_folder import SuiteRun


def metrics_table(suite: SuiteRun) -> pd.DataFrame:
    """Gather the metrics of all cells: one row per model, data, norm and metric.

    Args:
        suite: The suite.

    Returns:
        Columns model, data, norm ('' where a metric is about none), metric, mean, lowest, highest
        and seeds.
    """
    values: dict[tuple[str, ...], list[float]] = {}
    for cell in suite.cells:
        about = cell["about"]
        for metric, value in cell["metrics"].items():
            key = (about["model"], about["data"], about.get("norm", ""), metric)
            values.setdefault(key, [])
            values[key] += [] if value is None else [float(value)]
    return pd.DataFrame([
        {"model": model, "data": data, "norm": norm, "metric": metric}
        | {"mean": statistics.fmean(found) if found else None}
        | {"lowest": min(found, default=None), "highest": max(found, default=None)}
        | {"seeds": len(found)}
        for (model, data, norm, metric), found in values.items()
    ])


def peers_table(suite: SuiteRun) -> pd.DataFrame:
    """Gather the comparisons with other packages.

    Args:
        suite: The suite.

    Returns:
        One row per comparison.
    """
    rows = [row for cell in suite.cells if cell["kind"] == "peer" for row in cell["rows"]]
    table = pd.DataFrame(rows)
    if "load" in table:
        table["load"] = [" to ".join(map(str, load)) for load in table["load"]]
    return table


def corruptions_table(suite: SuiteRun) -> pd.DataFrame:
    """Gather the calibration tables.

    Args:
        suite: The suite.

    Returns:
        One row per model, data, seed, corruption and severity (0: clean).
    """
    table = pd.DataFrame([
        {**{key: cell["about"][key] for key in ("model", "data", "seed")}, **row}
        for cell in suite.cells
        if cell["kind"] == "calibration"
        for row in cell["rows"]
    ])
    if "interval95" in table:
        ends = table.pop("interval95")
        table["low95"], table["high95"] = [e[0] for e in ends], [e[1] for e in ends]
    return table


def severity_means(table: pd.DataFrame) -> dict[str, list[list[float]]]:
    """Average accuracies over corruptions, and over seeds.

    Args:
        table: From `corruptions_table`.

    Returns:
        By model, rows of severity, mean, and the lowest and highest mean of a seed.
    """
    found: dict[str, list[list[float]]] = {}
    for (model, severity), rows in table.groupby(["model", "severity"], sort=False):
        seeds = rows.groupby("seed")["accuracy"].mean()
        line = [float(severity), float(seeds.mean()), float(seeds.min()), float(seeds.max())]
        found.setdefault(str(model), []).append(line)
    return found
