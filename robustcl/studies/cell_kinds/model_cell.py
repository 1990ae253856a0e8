"""Train the model of a cell, or take its checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from robustcl.core.classifier import Classifier
from robustcl.core.errors import CheckpointError, InputError
from robustcl.core.terminal import say
from robustcl.models.checkpoint import Loaded, load_checkpoint
from robustcl.options.probe import ProbeOptions
from robustcl.options.train import TrainOptions
from robustcl.report.training_figure import read_log
from robustcl.studies.grid import Cell
from robustcl.studies.metrics import training_metrics
from robustcl.studies.options import training_options
from robustcl.studies.place import Place
from robustcl.studies.suite import Suite
from robustcl.workflows.probe import probe
from robustcl.workflows.train import train_and_save


def model_cell(suite: Suite, cell: Cell, place: Place) -> dict[str, Any]:
    """Leave a checkpoint with a head in the cell's folder, or check that there is one.

    A training run that was killed goes on from its state.

    Args:
        suite: The suite.
        cell: The model.
        place: Where the suite is run.

    Returns:
        Entries of the cell's state.
    """
    home = place.folder / cell.folder
    encoder = Path(cell.model.checkpoint)
    metrics: dict[str, float | None] = {}
    if not cell.model.checkpoint:
        encoder = home / ("encoder.safetensors" if cell.model.head else "model.safetensors")
        options = _options(cell, place, encoder)
        state = encoder.with_suffix(".state.safetensors")  # the last that a training removes
        row = _last_row(options) if _is_sound(encoder) and not state.exists() else None
        if row is None:  # not trained, or not to its end, or what it measured is lost
            train_and_save(replace(options, overwrite=True))
            row = _last_row(options)
        metrics = training_metrics(suite.metrics, row or {})
    if cell.model.head:
        _probe(cell, place, encoder)
    load_model(cell.model.checkpoint, cell.model.training.get("arch"), home)
    return {"metrics": metrics}


def load_model(checkpoint: str, arch: str | None, home: Path) -> tuple[Classifier, Loaded]:
    """Load what a model's cell left.

    Args:
        checkpoint: The checkpoint that the suite names; '' where it was trained.
        arch: For a checkpoint made from package.module:factory.
        home: Folder of the model's cell.

    Returns:
        The classifier, and what else is in its checkpoint.

    Raises:
        InputError: When it has no head.
    """
    own = home / "model.safetensors"
    given = checkpoint if checkpoint and not own.exists() else ""
    loaded = load_checkpoint(given or own, arch=arch if given else None)
    if loaded.classifier is None:
        raise InputError(
            f'{given or str(own)!r} has no head; add head = "prototype" to the model, which fits '
            "one on the training split"
        )
    return loaded.classifier, loaded


def _options(cell: Cell, place: Place, out: Path) -> TrainOptions:
    return replace(
        training_options(cell.model.training, data=cell.data, out=out),
        data_root=place.data_root,
        download=place.download,
        device=place.device,
        seed=cell.seed,
        resume=True,  # of a run that has not begun as well: it may have been killed at any time
        quiet=not place.progress,
    )


def _is_sound(encoder: Path) -> bool:
    if not encoder.exists():
        return False
    try:
        load_checkpoint(encoder)
    except CheckpointError as error:
        say(f"{error}: it is trained again")
        return False
    return True


def _last_row(options: TrainOptions) -> dict[str, float] | None:
    # None where the log is missing or damaged.
    try:
        table = read_log(options.out.with_suffix(".csv"))
        last = table.iloc[-1].dropna()
        found = {str(name): float(value) for name, value in last.items()}
        seconds, steps = found["seconds"], found["steps"]
    except (InputError, KeyError):
        return None
    images = steps * options.batch_size * options.accumulate
    found["training_seconds"] = seconds
    found["images_per_second"] = images / max(seconds, 1e-9)
    return found


def _probe(cell: Cell, place: Place, encoder: Path) -> None:
    training = cell.model.training
    options = ProbeOptions(
        checkpoint=encoder,
        out=place.folder / cell.folder / "model.safetensors",
        data=cell.data,
        data_root=place.data_root,
        download=place.download,
        head=cell.model.head,  # pyright: ignore[reportArgumentType] checked with the suite
        labels=float(training.get("labels", 1.0)) or 1.0,
        label_seed=int(training.get("label_seed", 0)),
        arch=training.get("arch") if cell.model.checkpoint else None,
        device=place.device,
        seed=cell.seed,
        overwrite=True,
    )
    probe(options)
