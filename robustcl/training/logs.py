"""Log training: a CSV file, TensorBoard, a progress bar."""

import csv
import importlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from robustcl.core import atomic
from robustcl.core.errors import InputError
from robustcl.models.heads import LinearHead

_COLUMNS = ("epoch", "steps", "seconds")  # that every log begins with


@dataclass(frozen=True)
class TrainLog:
    """Report a finished training run.

    Args:
        losses: Mean loss per epoch begun.
        penalties: Mean log-norm or gradient penalty per epoch (unweighted; 0 where it is off).
        rows: Per epoch all numbers by name.
        steps: Optimizer steps taken.
        seconds: Wall-clock time, measurements included.
        images_per_second: Training images (two views each) per second.
        spread: sqrt of the summed variance of z = h / |h| over training images; 0 when collapsed.
        alignment: Mean squared distance of z between two views, on one batch.
        uniformity: log mean exp(-2 |z_i - z_j|^2) over pairs, on one batch.
        head: The class layer of `cross_entropy`, a head on the raw embedding (`Classifier` with
            normalizes=False); None without that loss, behind a projector, and where the weights
            kept are a moving average, whose class layer is not.
    """

    losses: tuple[float, ...]
    penalties: tuple[float, ...]
    rows: tuple[dict[str, float], ...]
    steps: int
    seconds: float
    images_per_second: float
    spread: float
    alignment: float
    uniformity: float
    head: LinearHead | None = None


def write_rows(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write rows as CSV; the file is either the old one or the new one.

    Args:
        path: The file.
        rows: Numbers by name; a column is empty where a row has no such number.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic.write_text(path, text.getvalue())


def is_log(path: Path) -> bool:
    """Tell whether a file is the log of a training run.

    Args:
        path: The file, an ordinary one.

    Returns:
        Whether its columns are those that a log begins with.
    """
    with path.open("rb") as stream:
        head = stream.readline(1000).decode("utf-8", "replace").strip().split(",")
    return tuple(head[: len(_COLUMNS)]) == _COLUMNS and "loss" in head


_STEPS = "steps"  # the number in a row that says where it belongs


def check_tensorboard() -> Any:
    """Import torch.utils.tensorboard.

    Returns:
        The module.

    Raises:
        InputError: When the package tensorboard is absent, or does not work with this torch.
    """
    try:
        return importlib.import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise InputError(
            f"no log can be written for TensorBoard ({error}); run: pip install "
            "'robustcl[tensorboard]', or leave out --tensorboard, since the same numbers are in "
            "the .csv"
        ) from error


@contextmanager
def tensorboard_log(
    folder: Path | None, *, steps: int = 0
) -> Iterator[Callable[[dict[str, float]], None]]:
    """Open a log.

    A run that goes on writes another file into the folder, which tells TensorBoard to forget what
    the first one noted after the step from which it goes on; a run that begins anew, all of it.

    Args:
        folder: Where event files go; None to write nothing.
        steps: Optimizer steps that were taken before.

    Yields:
        A function of a row, which is noted at its own number of steps, and flushed.
    """
    if folder is None:
        yield lambda row: None
        return
    package = check_tensorboard()
    writer = package.SummaryWriter(str(folder), purge_step=steps + 1 if steps else 0)

    def write(row: dict[str, float]) -> None:
        for name, value in row.items():
            if name != _STEPS and math.isfinite(value):
                writer.add_scalar(f"train/{name}", value, int(row[_STEPS]))
        writer.flush()

    try:
        yield write
    finally:
        writer.close()


@contextmanager
def training_bar(visible: bool) -> Iterator[Callable[[float, str], None]]:
    """Show a bar with the time left on stderr.

    Args:
        visible: Whether to show it.

    Yields:
        A function of the share that is done and a note.
    """
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        disable=not visible,
        transient=True,
    )
    with bar:
        task = bar.add_task("train", total=1.0, note="")
        yield lambda done, note: bar.update(task, completed=done, note=note)
