"""State the options of `robustcl report`."""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Rebuild tables, figures and report.html from records; several runs are compared.

    Args:
        folders: A run folder, the folder of a suite or of a multi-view study, or the .csv log of a
            training run, which is drawn into a .png; or two or more run folders, which are
            compared.
        out: Where the comparison goes: a folder that is new, empty, or of a comparison;
            robustcl-comparison by default.
        require: Gates of a run, as in "certified_accuracy@0.25>=0.5"; exit code 3 when one is
            missed or the run is not complete.
        json: Write one JSON object on stdout.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]]
    out: Path | None = None
    require: tuple[str, ...] = ()
    json: bool = False
