"""Compare several runs on one page."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportGeneralTypeIssues=false

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from robustcl.core.errors import InputError
from robustcl.core.numbers import interval_text, norm_name
from robustcl.core.output_folder import OutputFolder
from robustcl.records.json_file import json_text
from robustcl.records.study_file import start_comparison
from robustcl.records.writing import file_name
from robustcl.report.certified_attacked import CertifiedAttacked, certified_attacked_curves
from robustcl.report.compared_runs import (
    ComparedRun,
    attacks_table,
    certificates_table,
    compared_run,
    curves_table,
    run_labels,
    runs_table,
)
from robustcl.report.plots import Drawing, radius_label
from robustcl.report.robustbench import robustbench_entry
from robustcl.report.sections import Page, Section, Table, spelled_out, write_page


def write_comparison(folders: Sequence[Path], out: Path) -> tuple[Path, list[str]]:
    """Compare runs: report.html, tables/, figures/ and robustbench/ in a new folder.

    Args:
        folders: Run folders, two or more.
        out: Where the page goes; not one of them.

    Returns:
        The path of report.html, and a line per run in which an attack beat a certificate.

    Raises:
        InputError: When a folder comes twice, or is the one that is written.
        RunError: When the folder that is written is not new, empty, or that of a comparison.
    """
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places) or out.resolve() in places:
        raise InputError("a run folder comes twice, or is --out; give each once, and a new --out")
    OutputFolder(out).check_start()
    runs = [
        compared_run(folder, label)
        for folder, label in zip(folders, run_labels(folders), strict=True)
    ]
    warnings = [
        f"{run.label} is not complete." for run in runs if not run.run.manifest.get("complete")
    ]
    warnings += [f"{run.label}: {note}" for run in runs for note in run.run.notes]
    hashes = {run.run.manifest.get("hashes", {}).get("data") for run in runs}
    if len(hashes) > 1:
        warnings.append("The runs are on different images; rates are not paired.")
    page = Page(
        eyebrow="Robustness comparison",
        title=" · ".join(dict.fromkeys(run.label for run in runs)),
        lead=f"{len(runs)} runs side by side, certificates below and attacks above.",
        good=no_violation(runs),
        bad=violation_rows(runs),
        warnings=warnings,
        sections=run_sections(runs, out),
        files=[Table("curves", curves_table(runs))],
    )
    start_comparison(out, {run.label: str(run.run.manifest["config_hash"]) for run in runs})
    write_entries(runs, out)
    return write_page(out, page), violation_rows(runs)


def run_sections(runs: Sequence[ComparedRun], out: Path) -> list[Section]:
    """Make the sections about runs: curves, and tables of runs, certificates and attacks.

    Args:
        runs: The runs; none gives no section.
        out: Folder of the page, for links to reports within it.

    Returns:
        The sections.
    """
    if not runs:
        return []
    caption = (
        "Certified accuracy (solid) is proved, accuracy left by attacks (dashed) was found: the "
        "truth of a run lies between the lines of its color. A dashed line ends at the largest "
        "budget that was tried."
    )
    figures = [
        (_sandwiches(norm, data, of), f"{data}, {norm_name(norm)}. {caption}")
        for (norm, data), of in _grouped(runs).items()
    ]
    links = [_link(run, out) for run in runs]
    counts = {run.summary.n for run in runs}
    images = f"all {counts.pop():,} images" if len(counts) == 1 else "all images"
    return [
        Section("Between proof and attack", figures=figures),
        Section(
            "Runs",
            tables=[Table("runs", runs_table(runs), spelled=_runs_spelled(runs), links=links)],
            note=f"Rates are shares of {images}, wrong ones included, at the smallest eps of each "
            "run; brackets are exact 95 % intervals over the draw of images. Radii are in pixel "
            "units of images in [0, 1]; a wrong image counts 0.",
        ),
        Section(
            "Certificates",
            tables=[Table("certificates", certificates_table(runs))],
            note="Probabilistic certificates are about a smoothed model; estimates prove nothing "
            "and have no certified accuracy.",
        ),
        Section(
            "Attacks",
            tables=[Table("attacks", attacks_table(runs))],
            note="Every point that counts was measured again on the whole model.",
        ),
    ]  # fmt: skip


def _runs_spelled(runs: Sequence[ComparedRun]) -> pd.DataFrame:
    table = spelled_out(runs_table(runs))
    ends = [interval_text(run.summary.interval95) for run in runs]
    table["clean_accuracy"] = [f"{rate} {end}" for rate, end in zip(table["clean_accuracy"], ends,
                                                                    strict=True)]  # fmt: skip
    once = [name for name in ("data", "n") if table[name].nunique() == 1]
    return table.drop(columns=["low95", "high95", "seconds", *once])


def no_violation(runs: Sequence[ComparedRun]) -> str:
    """Say how many pairs of a certificate and a found point were compared.

    Args:
        runs: The runs.

    Returns:
        A sentence; '' where there is nothing to compare.
    """
    pairs = sum(run.summary.pairs for run in runs)
    if not pairs:
        return ""
    return (
        f"No violation in {pairs:,} pairs of a deterministic certificate and a verified "
        "perturbation of the same image."
    )


def violation_rows(runs: Sequence[ComparedRun]) -> list[str]:
    """Name the runs in which an attack beat a certificate.

    Args:
        runs: The runs.

    Returns:
        One line per run.
    """
    return [
        f"{run.label} ({norm_name(run.summary.norm)}, seed {run.seed}): "
        f"{len(run.summary.violations)} of {run.summary.pairs} pairs"
        for run in runs
        if run.summary.violations
    ]


def write_entries(runs: Sequence[ComparedRun], out: Path) -> None:
    """Write one RobustBench-style JSON file per run into robustbench/.

    Args:
        runs: The runs.
        out: Folder of the page.
    """
    names = set[str]()
    for number, run in enumerate(runs):
        name = file_name(f"{run.label}-{run.data}-{run.summary.norm}-{run.seed}")
        if name.casefold() in names:  # as of labels that differ in a sign that no name can have
            name = f"{name}-{number}"
        names.add(name.casefold())
        entry = {**robustbench_entry(run.run, run.summary), "name": run.label}
        OutputFolder(out).write_text(f"robustbench/{name}.json", json_text(entry))


def _grouped(runs: Sequence[ComparedRun]) -> dict[tuple[str, str], list[ComparedRun]]:
    found: dict[tuple[str, str], list[ComparedRun]] = {}
    for run in runs:
        found.setdefault((run.summary.norm, run.data), []).append(run)
    return found


def _sandwiches(norm: str, data: str, runs: Sequence[ComparedRun]) -> Drawing:
    curves = [
        CertifiedAttacked(run.label, run.summary.certified_accuracy, run.summary.attacked_accuracy)
        for run in runs
    ]
    name = "sandwiches-" + "".join(sign if sign.isalnum() else "-" for sign in f"{data}-{norm}")
    return Drawing(
        name,
        (9.2, 4.2),
        partial(certified_attacked_curves, runs=curves, radius_label=radius_label(norm)),
    )


def _link(run: ComparedRun, out: Path) -> str:
    # Only within the page's own folder: an address of this machine is of no use elsewhere.
    page = run.run.folder.resolve() / "report.html"
    inside = page.is_relative_to(out.resolve()) and page.is_file()
    return os.path.relpath(page, out.resolve()).replace(os.sep, "/") if inside else ""
