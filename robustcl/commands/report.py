"""Rebuild a report from the records on disk, compare runs, or draw a training log."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from robustcl.commands.finish import finish
from robustcl.commands.options import answer, emit
from robustcl.errors import InputError, ViolationError
from robustcl.report import write_comparison, write_suite_page
from robustcl.report.study_page import write_study_report
from robustcl.report.suite_folder import is_suite
from robustcl.report.training_figure import write_training_figure
from robustcl.runs.comparison_file import is_comparison
from robustcl.runs.study_file import is_study


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Rebuild tables, figures and report.html from records; several runs are compared.

    Args:
        folders: A run folder, the folder of a suite or of a multi-view study, or the .csv log of a
            training run, which is drawn into a .png; or two or more run folders, which are
            compared.
        out: Where the comparison goes; robustcl-comparison by default.
        json: Write one JSON object on stdout.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]]
    out: Path | None = None
    json: bool = False


def report(options: ReportOptions) -> int:
    """Run `robustcl report`.

    Args:
        options: The options.

    Returns:
        The exit code.

    Raises:
        InputError: When no folder is given, or --out goes with a single one.
    """
    if not options.folders:
        raise InputError("give a run folder, several to be compared, or a training log (.csv)")
    if len(options.folders) > 1:
        out = options.out or Path("robustcl-comparison")
        return _compared(*write_comparison(options.folders, out), options)
    if options.out is not None:
        raise InputError("--out is for comparisons; the report of a run lies in its folder")
    folder = next(iter(options.folders))
    if folder.suffix == ".csv":
        return _told(write_training_figure(folder), "figure", options)
    if is_comparison(folder):
        raise InputError(f"{str(folder)!r} is a comparison; give the folders of its runs again")
    if is_study(folder):
        return _told(write_study_report(folder), "report", options)
    if is_suite(folder):
        return _compared(*write_suite_page(folder), options)
    return finish(folder, json=options.json)


def _compared(page: Path, beaten: list[str], options: ReportOptions) -> int:
    _told(page, "report", options)
    if beaten:
        raise ViolationError(f"attacks beat deterministic certificates: {'; '.join(beaten)}")
    return 0


def _told(place: Path, name: str, options: ReportOptions) -> int:
    answer(f"{name}: {place}", json=options.json)
    if options.json:
        emit({name: str(place)})
    return 0
