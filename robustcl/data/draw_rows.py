"""Draw a fair part of a data set, such that a larger part holds every smaller one."""

import numpy as np

from robustcl.core.errors import InputError

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
