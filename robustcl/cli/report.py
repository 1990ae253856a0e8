"""Rebuild a report from the records on disk, compare runs, or draw a training log."""

from pathlib import Path

from robustcl.core.errors import InputError, ViolationError
from robustcl.core.terminal import answer, emit
from robustcl.options.report import ReportOptions
from robustcl.records.study_file import is_comparison, is_study
from robustcl.report import write_comparison, write_suite_page
from robustcl.report.study_page import write_study_report
from robustcl.report.suite_folder import is_suite
from robustcl.report.training_figure import write_training_figure
from robustcl.workflows.outputs import finish, parse_gate


def report(options: ReportOptions) -> int:
    """Run `robustcl report`.

    Args:
        options: The options.

    Returns:
        The exit code.

    Raises:
        InputError: When no folder is given, --out goes with a single one, or gates do not go with
            what is reported.
    """
    if not options.folders:
        raise InputError("give a run folder, several to be compared, or a training log (.csv)")
    for gate in options.require:
        parse_gate(gate)
    if len(options.folders) > 1:
        _refuse_gates(options, "a comparison of runs")
        out = options.out or Path("robustcl-comparison")
        return _compared(*write_comparison(options.folders, out), options)
    if options.out is not None:
        raise InputError("--out is for comparisons; the report of a run lies in its folder")
    folder = next(iter(options.folders))
    if folder.suffix == ".csv":
        _refuse_gates(options, "a training log")
        return _told(write_training_figure(folder), "figure", options)
    if is_comparison(folder):
        raise InputError(f"{str(folder)!r} is a comparison; give the folders of its runs again")
    if is_study(folder):
        _refuse_gates(options, "a multi-view study")
        return _told(write_study_report(folder), "report", options)
    if is_suite(folder):
        _refuse_gates(options, "a suite")
        return _compared(*write_suite_page(folder), options)
    return finish(folder, json=options.json, require=options.require)


def _refuse_gates(options: ReportOptions, what: str) -> None:
    if options.require:
        raise InputError(
            f"--require {options.require[0]} is for the folder of a run, not for {what}; report "
            "each run by itself"
        )


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
