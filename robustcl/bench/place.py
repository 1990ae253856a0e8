"""Say where and how a suite is run, as far as its results do not depend on it."""

from dataclasses import dataclass
from pathlib import Path

from robustcl.bench.suite import Suite
from robustcl.data import Dataset, Split, load_data


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
        mixed: Whether a suite goes on although robustcl or torch is another version.
    """

    folder: Path
    device: str = "cpu"
    data_root: Path | None = None
    download: bool = False
    command: str = ""
    progress: bool = False
    mixed: bool = False


def read_split(suite: Suite, place: Place, data: str, *, split: Split, seed: int) -> Dataset:
    """Load the data of a cell.

    Args:
        suite: Its limit is for test images.
        place: Where data lies.
        data: The specification.
        split: 'train' or 'test'.
        seed: Of a split that is drawn.

    Returns:
        The split.
    """
    limit = suite.limit if split == "test" else None
    return load_data(
        data, split=split, root=place.data_root, download=place.download, limit=limit, seed=seed
    )
