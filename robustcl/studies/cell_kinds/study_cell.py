"""Study multi-view inference with the model of a cell."""

from pathlib import Path
from typing import Any

from robustcl.core.errors import RunError
from robustcl.core.last_handler import Stopped
from robustcl.records.study_file import read_study
from robustcl.studies.grid import Cell
from robustcl.studies.metrics import study_metrics
from robustcl.studies.multiview.running import multiview
from robustcl.studies.options import study_options
from robustcl.studies.place import Place
from robustcl.studies.suite import Suite


def study_cell(suite: Suite, cell: Cell, place: Place) -> dict[str, Any]:
    """Write the folder of a study, with its report.

    Stages that are on the disk are kept.

    Args:
        suite: The suite.
        cell: The study.
        place: Where the suite is run.

    Returns:
        Entries of the cell's state.

    Raises:
        Stopped: When a signal interrupted the study.
        RunError: When it ended otherwise than well.
    """
    assert cell.norm is not None
    folder, own = place.folder / cell.folder, place.folder / cell.needs / "model.safetensors"
    given = bool(cell.model.checkpoint) and not own.exists()
    options = study_options(
        suite.multiview,
        norm=cell.norm,
        eps=suite.eps[cell.norm][0],
        checkpoint=Path(cell.model.checkpoint) if given else own,
        arch=cell.model.training.get("arch") if given else None,
        out=folder,
        data=cell.data,
        data_root=place.data_root,
        download=place.download,
        limit=suite.limit,
        classes=suite.classes,
        device=place.device,
        batch_size=suite.batch_size,
        seed=cell.seed,
        resume=folder.exists(),
        mixed_versions=place.mixed,
        quiet=not place.progress,
    )
    code = multiview(options)
    if code > 128:
        raise Stopped(code - 128)
    if code:
        raise RunError(f"the study in {str(folder)!r} ended with code {code}")
    study, _, _ = read_study(folder)
    return {"metrics": study_metrics(suite.metrics, study)}
