"""Choose the images whose labels are known, the same number in every class."""

import numpy as np

from robustcl.core.errors import InputError


def label_subset(
    labels: np.ndarray, share: float, *, num_classes: int, seed: int = 0
) -> np.ndarray:
    """Draw a class-balanced subset of labeled images.

    Of N images, round(share N) labels are dealt out evenly; a class with fewer images than its
    part gives all it has. Each class is permuted by its own generator, seeded by (seed, class), so
    a larger share keeps the images of a smaller one.

    Args:
        labels: (N,) integer labels from 0.
        share: Share of images whose labels are known, in [0, 1].
        num_classes: K.
        seed: Seed of the draw.

    Returns:
        Sorted rows; none for share 0, all for share 1.

    Raises:
        InputError: When the share is outside [0, 1], labels are not in 0..K-1, or the share
            leaves a class without a label.
    """
    if not 0.0 <= share <= 1.0:
        raise InputError(f"labels {share} is not a share in [0, 1]; try 0.1")
    if num_classes < 1 or not len(labels):
        raise InputError(f"{len(labels)} images of {num_classes} classes; one at least is needed")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise InputError(f"labels from {low} to {high} are not those of {num_classes} classes")
    counts = np.bincount(labels, minlength=num_classes)
    if share == 0.0:
        return np.zeros(0, dtype=np.int64)
    per_class = round(share * len(labels)) // num_classes
    empty = [k for k in range(num_classes) if min(per_class, counts[k]) < 1]
    if empty and not counts[empty[0]]:
        raise InputError(f"class {empty[0]} has no training image; every class needs one")
    if empty:
        raise InputError(
            f"labels {share} of {len(labels)} images is less than one label for each of "
            f"{num_classes} classes; use {num_classes / len(labels):.2g} or more"
        )
    if share == 1.0:
        return np.arange(len(labels))
    chosen = []
    for label in range(num_classes):
        rows = np.flatnonzero(labels == label)
        order = np.random.default_rng([seed, label]).permutation(len(rows))
        chosen.append(rows[order[:per_class]])
    return np.sort(np.concatenate(chosen))
