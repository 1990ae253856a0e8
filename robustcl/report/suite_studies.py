"""Show the multi-view studies of a suite on its page."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportReturnType=false

from functools import partial
from typing import Any

import pandas as pd

from robustcl.core.numbers import norm_name, percent
from robustcl.records.study_file import read_study
from robustcl.report.drawing import Drawing
from robustcl.report.gains import gains
from robustcl.report.sections import Section, Table
from robustcl.report.study_page import SINGLE, sentences
from robustcl.report.suite_folder import SuiteRun

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
            rates = {"single": models[SINGLE]["robust"], "multi": models.get(name, one)["robust"]}
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
        for name in (SINGLE, *study.attacked):
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
