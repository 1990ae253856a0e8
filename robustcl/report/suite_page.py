"""Write the page of a suite: its question, one table, and all its runs."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false

import json
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from robustcl.core.numbers import norm_name, percent, seconds_text
from robustcl.report.compared_runs import ComparedRun, compared_run, curves_table
from robustcl.report.comparison import no_violation, run_sections, violation_rows, write_entries
from robustcl.report.plots import Drawing, ratios, severity_curves
from robustcl.report.sections import Page, Section, Table, spelled_out, write_page
from robustcl.report.suite_folder import MODEL_FAILED, STATUSES, SuiteRun, load_suite_run
from robustcl.report.suite_tables import (
    corruptions_table,
    metrics_table,
    peers_table,
    severity_means,
    study_sections,
)

ENDED = STATUSES


def write_suite_page(folder: Path) -> tuple[Path, list[str]]:
    """Write report.html, tables/, figures/ and robustbench/ into the folder of a suite.

    Args:
        folder: The folder.

    Returns:
        The path of report.html, and a line per run in which an attack beat a certificate.
    """
    suite = load_suite_run(folder)
    runs = [
        compared_run(folder / cell["cell"], cell["about"]["model"])
        for cell in suite.cells
        if cell["kind"] == "audit" and (folder / cell["cell"] / "manifest.json").is_file()
        and list((folder / cell["cell"]).glob("records-*.jsonl"))
    ]  # fmt: skip
    write_entries(runs, folder)
    return write_page(folder, _page(suite, runs)), violation_rows(runs)


def _page(suite: SuiteRun, runs: list[ComparedRun]) -> Page:
    manifest = suite.manifest
    count = {status: sum(c["status"] == status for c in suite.cells) for status in ENDED}
    ended = ", ".join(f"{number} {status}" for status, number in count.items() if number)
    made = [
        *_metrics(suite),
        *study_sections(suite),
        *_peers(suite),
        *_corruptions(suite),
        *run_sections(runs, suite.folder),
    ]
    return Page(
        eyebrow="Benchmark suite",
        title=str(manifest["suite"]),
        lead=str(manifest["question"]),
        good=no_violation(runs),
        bad=violation_rows(runs),
        warnings=_warnings(suite),
        sections=made,
        files=[Table("curves", curves_table(runs))],
        reproduce=[
            ("command", str(manifest.get("command") or "–")),
            ("cells", f"{ended} of {len(manifest['cells'])}"),
            ("config hash", str(manifest["config_hash"])),
            ("device", str(manifest.get("device", "–"))),
            ("time", seconds_text(float(manifest.get("seconds") or 0.0))),
            ("created", str(manifest.get("created", "–"))),
            ("versions", ", ".join(f"{k} {v}" for k, v in manifest.get("versions", {}).items())),
        ],
        config=json.dumps(manifest["config"], indent=1, sort_keys=True),
    )


def _warnings(suite: SuiteRun) -> list[str]:
    found = list(suite.notes)
    found += [
        f"{cell['cell']} {cell['status']}: {cell['reason']}"
        for cell in suite.cells
        if cell["status"] != "done" and not cell["reason"].startswith(MODEL_FAILED)
    ]
    followed = sum(cell["reason"].startswith(MODEL_FAILED) for cell in suite.cells)
    found += [f"{followed} cells need a model that failed."] if followed else []
    for cell in suite.cells:
        found += [f"{cell['cell']} left out {n}: {why}" for n, why in cell["left_out"].items()]
    if len(suite.cells) < len(suite.manifest["cells"]):
        missing = len(suite.manifest["cells"]) - len(suite.cells)
        found.append(f"The suite is not complete: {missing} cells have not ended; add --resume.")
    return found


def _metrics(suite: SuiteRun) -> list[Section]:
    table = metrics_table(suite)
    if table.empty:
        return []
    wide: dict[tuple[str, str], dict[str, str]] = {}
    for row in table.to_dict("records"):
        norm = f" ({norm_name(row['norm'])})" if row["norm"] else ""
        line = wide.setdefault((row["model"], row["data"]), {})
        line[f"{row['metric'].replace('_', ' ')}{norm}"] = _spread(row)
    names = list(dict.fromkeys(name for line in wide.values() for name in line))
    several = len({data for _, data in wide}) > 1
    heads = [f"{model}, {data}" if several else model for model, data in wide]
    columns = {head: [line.get(name, "–") for name in names]
               for head, line in zip(heads, wide.values(), strict=True)}  # fmt: skip
    shown = pd.DataFrame({"metric": names, **columns})
    seeds = int(table["seeds"].max())
    note = "Accuracies at the smallest eps of the norm unless a radius is named; "
    note += f"mean of {seeds} seeds, with the range over them." if seeds > 1 else "one seed."
    return [Section("Answer", tables=[Table("metrics", table, spelled=shown)], note=note)]


def _spread(row: dict[str, Any]) -> str:
    if row["mean"] is None or row["mean"] != row["mean"]:
        return "–"
    rate = any(word in row["metric"] for word in ("accuracy", "share", "gain"))
    spell = percent if rate else _plain
    if row["seeds"] < 2:
        return spell(row["mean"])
    return f"{spell(row['mean'])}\n[{spell(row['lowest'])}, {spell(row['highest'])}]"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def _peers(suite: SuiteRun) -> list[Section]:
    table = peers_table(suite)
    if table.empty:
        return []
    rows = table.to_dict("records")
    shown = pd.DataFrame([
        {
            "task": row["task"], "package": row["package"],
            "correctness": ("agree: " if row["agree"] else "DIFFER: ") + row["agreement"],
            "ours": _seconds(row["seconds"]), "theirs": _seconds(row["their_seconds"]),
            "their time over ours": _ratio(row),
        }
        for row in rows
    ])  # fmt: skip
    timed = [row for row in rows if row["ratio"] is not None and row["ratio"] == row["ratio"]]
    figures = []
    if timed:
        labels = [f"{row['package'].split(' ')[0]}: {row['task'].split(',')[0]}" for row in timed]
        repeated = {label for label in labels if labels.count(label) > 1}
        labels = [
            f"{label}{',' + row['task'].split(',')[1]}" if label in repeated else label
            for label, row in zip(labels, timed, strict=True)
        ]
        values = [(row["ratio"], row["low"], row["high"]) for row in timed]
        drawing = Drawing(
            "peers", (8.0, 0.9 + 0.42 * len(timed)), partial(ratios, labels=labels, values=values)
        )
        figures = [(drawing, "Speed beside other packages, where results agree.")]
    note = (
        "Both sides get the same inputs on the same machine and take turns. Results are compared "
        "first; where ours is not as right, no speed is stated. Times are processor seconds on a "
        "CPU (wall time on a GPU), medians over turns; intervals are order statistics."
    )
    return [Section("Peers", figures=figures, tables=[Table("peers", table, shown)], note=note)]


def _seconds(value: Any) -> str:
    return "–" if value is None or value != value else seconds_text(float(value))


def _ratio(row: dict[str, Any]) -> str:
    if row["ratio"] is None or row["ratio"] != row["ratio"]:
        return "–"
    return f"{row['ratio']:#.3g}\n[{row['low']:#.3g}, {row['high']:#.3g}]"


def _corruptions(suite: SuiteRun) -> list[Section]:
    table = corruptions_table(suite)
    if table.empty:
        return []
    note = (
        "The temperature of each model was fitted on one half of the test images and everything "
        "is measured on the other half, which is the same for clean and corrupted images. "
        "Calibration error: 15 bins of equal count. Brier: summed over classes."
    )
    if table["severity"].max() == 0:
        shown = spelled_out(table.drop(columns=["corruption", "severity"]))
        return [Section("Calibration", tables=[Table("calibration", table, shown)], note=note)]
    means = table.groupby(["model", "corruption", "severity"], sort=False)[
        ["accuracy", "nll", "calibration_error"]
    ].mean()
    shown = means.reset_index()
    drawing = Drawing(
        "corruptions", (8.0, 4.0), partial(severity_curves, curves=severity_means(table))
    )
    caption = "Accuracy by severity: mean over corruptions and seeds, shaded the range over seeds."
    tables = [Table("corruptions", shown), Table("calibration", table)]
    return [
        Section("Corruptions", figures=[(drawing, caption)], tables=tables[:1], note=note),
        Section("Every corruption and seed", tables=tables[1:], folded=True),
    ]
