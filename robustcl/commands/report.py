"""Rebuild a report from the records on disk, or the figure of a training log."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from robustcl.commands.finish import finish
from robustcl.commands.options import emit, say
from robustcl.report.study_page import STUDY, write_study_report
from robustcl.report.training_figure import write_training_figure


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Rebuild tables, figures and report.html from the records of a run.

    Args:
        folder: The run folder, or that of a multi-view study; or the .csv log of a training run,
            which is drawn into a .png.
        json: Write one JSON object on stdout.
    """

    folder: tyro.conf.Positional[Path]
    json: bool = False


def report(options: ReportOptions) -> int:
    """Run `robustcl report`.

    Args:
        options: The options.

    Returns:
        The exit code.
    """
    if options.folder.suffix == ".csv":
        figure = write_training_figure(options.folder)
        say(f"figure: {figure}")
        if options.json:
            emit({"figure": str(figure)})
        return 0
    if (options.folder / STUDY).is_file():
        page = write_study_report(options.folder)
        say(f"report: {page}")
        if options.json:
            emit({"report": str(page)})
        return 0
    return finish(options.folder, json=options.json)
