"""Split data sets and draw images from them."""

import numpy as np

from robustcl.core.choices import SPLITS, Split
from robustcl.core.errors import InputError


def check_split(split: str) -> Split:
    """Refuse any split but train and test.

    Args:
        split: The name to be checked.

    Returns:
        The same name.

    Raises:
        InputError: When it is neither.
    """
    for known in SPLITS:
        if split == known:
            return known
    raise InputError(f"unknown split {split!r}; use 'train' or 'test'")


def stratified_split(
    labels: np.ndarray, *, test_share: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a test set with the same share of every class.

    Each class is permuted by its own generator, seeded by (seed, class), so the split of one
    class does not depend on the others. A class with one image goes to train.

    Args:
        labels: (N,) integer labels.
        test_share: Share of each class that goes to test, strictly between 0 and 1.
        seed: Seed of the draw.

    Returns:
        Sorted train rows and sorted test rows; together every row exactly once.

    Raises:
        InputError: When `test_share` is not strictly between 0 and 1, `seed` is negative, or labels
            are not integers from 0.
    """
    if not 0.0 < test_share < 1.0:
        raise InputError(f"test_share {test_share!r} is not strictly between 0 and 1; try 0.2")
    if seed < 0:
        raise InputError(f"seed {seed} is negative; use a seed >= 0")
    _check_labels(labels)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(round(test_share * len(rows)), 1), len(rows) - 1)
        order = np.random.default_rng([seed, int(label)]).permutation(len(rows))
        is_test[rows[order[:count]]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def _check_labels(labels: np.ndarray) -> None:
    kind = getattr(labels, "dtype", None)
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or labels.dtype.kind not in "iu":
        shape = getattr(labels, "shape", None)
        raise InputError(f"labels of shape {shape} and type {kind} are no (N,) array of integers")
    if len(labels) and int(labels.min()) < 0:
        raise InputError(
            f"there is the label {int(labels.min())}; labels are integers from 0, so drop the "
            "images without a label (often marked -1)"
        )


def split_rows(labels: np.ndarray, split: str, *, seed: int, test_share: float = 0.2) -> np.ndarray:
    """Return the rows of one side of the stratified split.

    Args:
        labels: (N,) integer labels.
        split: 'train' or 'test'.
        seed: Seed of the draw.
        test_share: Share of each class that goes to test.

    Returns:
        Sorted rows.
    """
    train, test = stratified_split(labels, test_share=test_share, seed=seed)
    return train if check_split(split) == "train" else test


PURPOSE = 18_446_744  # tells this draw from others with the same seed


def draw_order(labels: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Put rows into a random order whose every beginning is stratified by class.

    Each class is permuted by its own generator and spread evenly over [0, 1), so of the first N
    rows every class has its share, up to one image. The order of a class does not depend on the
    other classes.

    Args:
        labels: (M,) integer classes; of one value throughout where there are none.
        seed: Seed of the order.

    Returns:
        (M,) int64, every row once.

    Raises:
        InputError: When the seed is negative.
    """
    if seed < 0:
        raise InputError(f"seed {seed} is negative; use a seed >= 0")
    places = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        # Labels of images without one are -1, and a generator takes no negative number.
        generator = np.random.default_rng([PURPOSE, seed, int(label) + 1])
        order = generator.permutation(len(rows))
        places[rows[order]] = (np.arange(len(rows)) + generator.random()) / len(rows)
    return np.argsort(places, kind="stable")
