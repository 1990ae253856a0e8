"""Tables of a suite, and sections about its studies."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false

import statistics

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportReturnType=false
from functools import partial
from typing import Any

import pandas as pd

from robustcl.core.numbers import norm_name, percent
from robustcl.records.study_file import read_study
from robustcl.report.plots import Drawing, gains
from robustcl.report.sections import Section, Table
from robustcl.report.study_page import SINGLE_VIEW, sentences
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


QUESTIONS = ("accuracy", "robustness", "calibration")
CALIBRATION = ("nll", "smooth_ece", "debiased", "ece15", "ece15_floor95", "augrc")


def study_sections(suite: SuiteRun) -> list[Section]:
    """Show verdicts, both gains in robustness side by side, and calibration.

    Args:
        suite: The suite.

    Returns:
        The parts of the page; none where no study has ended.
    """
    studies = [
        _Read(cell, suite) for cell in suite.cells
        if cell["kind"] == "study" and cell["status"] == "done"
    ]  # fmt: skip
    if not studies:
        return []
    return [_verdicts(studies), _gains(studies), _calibration(studies)]


class _Read:
    # One study: what it is about, its folder from the page, and what it found.

    def __init__(self, cell: dict[str, Any], suite: SuiteRun) -> None:
        folder = suite.folder / cell["cell"]
        about = cell["about"]
        self.about = {key: about[key] for key in ("model", "data", "seed", "norm")}
        self.page = f"{cell['cell']}/report.html"
        self.found, manifest, _ = read_study(folder)
        self.sentences = sentences(self.found, manifest["config"])
        compared = self.found["comparisons"]
        self.attacked = {name: one for name, one in compared.items() if "adaptive_gain" in one}
        fresh = self.found.get("fresh")
        self.gains = {**self.attacked, **({fresh["name"]: fresh} if fresh else {})}


def _verdicts(studies: list[_Read]) -> Section:
    rows, links = [], []
    for study in studies:
        for question, sentence in zip(QUESTIONS, study.sentences, strict=True):
            rows.append({**study.about, "question": question, "verdict": sentence})
            links.append(study.page)
    note = (
        "About the first aggregate with the most views, chosen beforehand. Intervals are paired "
        "95 % bootstrap intervals over images, for one network each."
    )
    table = pd.DataFrame(rows)
    tables = [Table("verdicts", table, _short(table).drop(columns="question"), links)]
    return Section("Does it help to look many times?", tables=tables, note=note)


def _gains(studies: list[_Read]) -> Section:
    rows = []
    for study in studies:
        models = study.found["models"]
        for name, one in study.gains.items():
            ends = {
                f"{kind}_{part}": one[f"{kind}_gain"][part]
                for kind in ("transfer", "adaptive")
                for part in ("value", "low", "high")
            }
            rates = {
                "single": models[SINGLE_VIEW]["robust"],
                "multi": models.get(name, one)["robust"],
            }
            rows.append({**study.about, "views": name, **ends, **rates})
    table = pd.DataFrame(rows)
    shown = _short(table[["model", "data", "seed", "norm", "views"]])
    for kind, head in (("transfer", "gain if one view is known"), ("adaptive", "if all are known")):
        shown[head] = [_points(row, kind) for row in rows]
    shown["left of the single view"] = [percent(row["single"]) for row in rows]
    shown["left"] = [percent(row["multi"]) for row in rows]
    kept = shown.columns[: list(shown.columns).index("views") + 1]
    labels = [", ".join(map(str, line)) for line in shown[kept].itertuples(index=False)]
    triples = {
        kind: [[row[f"{kind}_{part}"] for part in ("value", "low", "high")] for row in rows]
        for kind in ("transfer", "adaptive")
    }
    drawing = Drawing("multiview_gains", (8.0, 1.2 + 0.45 * len(rows)), partial(
        gains, labels=labels, transfer=triples["transfer"], adaptive=triples["adaptive"]
    ))  # fmt: skip
    caption = "Robust accuracy gained over the single view, by what the attacker knows."
    note = (
        "Left is what the union of all points, found against any of the models, leaves. Fresh: "
        "views drawn anew at every call, attacked by the average over draws and judged by others."
    )
    return Section("Illusion and gain", figures=[(drawing, caption)],
                   tables=[Table("multiview_gains", table, shown)], note=note)  # fmt: skip


def _calibration(studies: list[_Read]) -> Section:
    rows = []
    for study in studies:
        for name in (SINGLE_VIEW, *study.attacked):
            model = study.found["models"][name]
            for images in ("clean", "noisy", "attacked"):
                values = {key: model[images][key] for key in ("accuracy", *CALIBRATION)}
                rows.append({**study.about, "views": name, "images": images, **values})
    table = pd.DataFrame(rows)
    shown = _short(table)
    shown["accuracy"] = [percent(row["accuracy"]) for row in rows]
    for key in CALIBRATION:
        shown[key] = [f"{row[key]:.3f}" for row in rows]
    note = (
        "Temperatures are fitted on held-out clean images after the views were put together. "
        "ece15_floor95 is what a perfectly calibrated model of as many images stays below in 95 % "
        "of draws. Attacked: at the points of the model's own attack."
    )
    tables = [Table("multiview_calibration", table, shown)]
    return Section("Calibration of many views", tables=tables, note=note)


def _short(table: pd.DataFrame) -> pd.DataFrame:
    # What is the same in all rows is not shown, but the model.
    kept = [c for c in table if c not in ("data", "seed", "norm") or table[c].nunique() > 1]
    shown = table[kept].copy()
    if "norm" in shown:
        shown["norm"] = [norm_name(norm) for norm in table["norm"]]
    return shown


def _points(row: dict[str, Any], kind: str) -> str:
    value, low, high = (100.0 * row[f"{kind}_{part}"] for part in ("value", "low", "high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
