"""Write the numbers of a training run for TensorBoard."""

import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robustcl.core.errors import InputError

STEPS = "steps"  # the number in a row that says where it belongs


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
            if name != STEPS and math.isfinite(value):
                writer.add_scalar(f"train/{name}", value, int(row[STEPS]))
        writer.flush()

    try:
        yield write
    finally:
        writer.close()
