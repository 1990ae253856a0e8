"""Rebuild a report from the records on disk."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from robustcl.commands.finish import finish


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Rebuild tables, figures and report.html from the records of a run.

    Args:
        folder: The run folder.
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
    return finish(options.folder, json=options.json)
