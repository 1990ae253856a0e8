"""Read the folder of a suite: manifest.json, and a cell.json in the folder of every cell.

`manifest.json` has what that of a run has, and `suite` (name), `question` and `cells` (their
folders in order). `cell.json` holds `cell` (folder), `kind` (model, audit, calibration, study or
peer), `status` (done, failed or skipped), `reason`, `seconds`, `about` (model, data, seed, norm,
peer), `metrics` by name, `left_out` (methods that do not treat the model, with the reason) and
`rows` of a calibration table or a peer. The folder of an audit is a run folder (see `records`),
that of a study is what `robustcl multiview` writes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustcl.errors import RunError
from robustcl.runs.records import read_manifest

MODEL_FAILED = "its model failed"  # how the reason of a cell begins that needs one


@dataclass(frozen=True, eq=False)
class SuiteRun:
    """Hold what the folder of a suite says.

    Args:
        manifest: The content of manifest.json.
        cells: The content of each cell.json there is, in the order of the manifest.
        folder: Where it was read from.
    """

    manifest: dict[str, Any]
    cells: tuple[dict[str, Any], ...]
    folder: Path


def is_suite(folder: Path) -> bool:
    """Tell whether a folder is that of a suite.

    Args:
        folder: The folder, with a manifest.json.

    Returns:
        Whether it is, and not that of a run.
    """
    return "suite" in read_manifest(folder)


def load_suite_run(folder: Path) -> SuiteRun:
    """Read the folder of a suite.

    Args:
        folder: The folder.

    Returns:
        What it says.
    """
    manifest = read_manifest(folder)
    found = (read_cell(folder / place) for place in manifest["cells"])
    return SuiteRun(manifest, tuple(cell for cell in found if cell is not None), folder)


def read_cell(folder: Path) -> dict[str, Any] | None:
    """Read cell.json.

    Args:
        folder: Of the cell.

    Returns:
        Its content; None where the cell has not ended.

    Raises:
        RunError: When it is damaged.
    """
    place = folder / "cell.json"
    if not place.is_file():
        return None
    try:
        return json.loads(place.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RunError(f"{str(place)!r} is not JSON ({error}); remove it and resume") from error
