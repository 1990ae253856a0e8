"""Load scikit-learn's handwritten digits, which need no download."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from robustcl.core.choices import Split
from robustcl.data.dataset import Dataset
from robustcl.data.listing import Listing
from robustcl.data.splits import split_rows

TEST_SHARE = 0.25


def digits(*, split: Split = "test", seed: int = 0) -> Dataset:
    """Load the 1,797 gray 8x8 digits, three quarters for training and one for testing.

    The 17 gray levels 0..16 are stored as uint8, rounded to 255/16 per level.

    Args:
        split: 'train' or 'test'.
        seed: Seed of the stratified split.

    Returns:
        The split, with image shape (1, 8, 8) and 10 classes.

    Reference:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """
    return list_digits(split=split, seed=seed).dataset()


def list_digits(*, split: Split, seed: int) -> Listing:
    """List what `digits` loads.

    Args:
        split: 'train' or 'test'.
        seed: Seed of the stratified split.

    Returns:
        The listing, with all images in memory.
    """
    pixels, labels = read_digits()
    images = np.rint(np.asarray(pixels) * (255.0 / 16.0)).astype(np.uint8).reshape(-1, 8, 8, 1)
    targets = np.asarray(labels).astype(np.int64)
    rows = split_rows(targets, split, seed=seed, test_share=TEST_SHARE)
    return Listing(
        name=f"digits/{split}",
        labels=targets[rows],
        class_names=tuple(str(digit) for digit in range(10)),
        load=lambda few: images[rows[few]],
    )


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Read the table that scikit-learn ships, without a second of imports where it lies as usual.

    Returns:
        (1797, 64) gray levels and (1797,) labels, as `sklearn.datasets.load_digits` gives them.
    """
    package = find_spec("sklearn")
    folders = (package and package.submodule_search_locations) or ()
    for folder in folders:
        place = Path(folder, "datasets", "data", "digits.csv.gz")
        if place.is_file():
            with gzip.open(place, "rt", encoding="ascii") as file:
                table = np.loadtxt(file, delimiter=",")
            return table[:, :-1], table[:, -1]
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.asarray(pixels), np.asarray(labels)
