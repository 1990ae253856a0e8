"""Say where and how a suite is run, as far as its results do not depend on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from robustcl.core.choices import Draw, Split
from robustcl.core.errors import InputError
from robustcl.core.locks import patiently
from robustcl.core.terminal import say
from robustcl.data import Dataset, load_data
from robustcl.studies.suite import Suite


@dataclass(frozen=True)
class Place:
    """Say where a suite is run.

    Args:
        folder: Of the suite.
        device: cpu, cuda, ...
        data_root: Folder of torchvision's data sets.
        download: Whether what is missing may be downloaded.
        command: The command line, for manifests.
        progress: Whether bars are shown on stderr.
        draw: How a limit draws test images, see `load_data`; 'first' for suites that an older
            version began.
        mixed: Whether a suite goes on although robustcl or torch is another version.
    """

    folder: Path
    device: str = "cpu"
    data_root: Path | None = None
    download: bool = False
    command: str = ""
    progress: bool = False
    draw: Draw = "stratified"
    mixed: bool = False


def read_split(
    suite: Suite,
    place: Place,
    data: str,
    *,
    split: Split,
    seed: int,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """Load the data of a cell, and say what should be known about it.

    Args:
        suite: Its limit is for test images.
        place: Where data lies.
        data: The specification.
        split: 'train' or 'test'.
        seed: Of what is drawn.
        classes: The class names of the classifier that the data is for; labels become positions
            among them. None keeps the data's own.

    Returns:
        The split.

    Raises:
        InputError: When it has no labels, or not those of the classifier.
    """
    load = partial(
        load_data,
        data,
        split=split,
        root=place.data_root,
        download=place.download,
        limit=suite.limit if split == "test" else None,
        seed=seed,
        draw=place.draw,
        classes=classes,
        matching=suite.classes,
    )
    found = patiently(load, what=data)
    if not found.labeled:
        raise InputError(f"{found.name!r} has no labels, but suites measure accuracies")
    for note in found.notes:
        say(f"note: {note}")
    return found
