"""Report a training run."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robustcl.core import atomic
from robustcl.models.heads import LinearHead

COLUMNS = ("epoch", "steps", "seconds")  # that every log begins with


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
    return tuple(head[: len(COLUMNS)]) == COLUMNS and "loss" in head
