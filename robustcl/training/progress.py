"""Show how far training is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


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
