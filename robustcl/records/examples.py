"""Choose the images whose smallest perturbation is shown: the nearest and the most robust."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from robustcl.records.arrays import every_row

TRIPLES = 16  # of the nearest, and of the most robust images; figures show fewer


def load_examples(folder: Path) -> dict[str, np.ndarray]:
    """Read the images of a run that are shown beside what an attack made of them.

    Args:
        folder: The run folder.

    Returns:
        `index`, `clean`, `attacked` and `radius` with a row per image, ascending by radius; empty
        when the run has none. Damaged files are left out (see `arrays.array_faults`).
    """
    stored = every_row(folder, "triples", lenient=True)
    return extremes(stored) if stored else {}


def smallest(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keep one row per image, that of the smallest radius.

    Args:
        arrays: As `load_examples` gives them, in any order.

    Returns:
        The rows, ascending by radius.
    """
    order = np.lexsort((arrays["index"], arrays["radius"]))
    _, first = np.unique(arrays["index"][order], return_index=True)
    return {key: value[order[np.sort(first)]] for key, value in arrays.items()}


def extremes(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keep the images with the smallest and with the largest radii.

    Args:
        arrays: As `load_examples` gives them, in any order.

    Returns:
        At most 2 `TRIPLES` rows, ascending by radius. They do not depend on the order of rows, nor
        on rows that an earlier call has let go.
    """
    rows = smallest(arrays)
    if len(rows["index"]) <= 2 * TRIPLES:
        return rows
    return {key: np.concatenate([v[:TRIPLES], v[-TRIPLES:]]) for key, v in rows.items()}
