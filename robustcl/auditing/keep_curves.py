"""Keep how far an attack had come after each number of evaluations."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robustcl.runs.arrays import own_arrays, replace_rows, save_arrays
from robustcl.runs.short_file import short_file

MOST_IMAGES = 1024  # the first ones of the data set
Columns = dict[float, tuple[np.ndarray, np.ndarray, np.ndarray]]


def keep_curves(
    folder: Path,
    attack: str,
    index: np.ndarray,
    *,
    eps: Sequence[float],
    evaluations: np.ndarray,
    found: Columns,
) -> None:
    """Add the curves of some images to arrays/curves-ATTACK.npz.

    There, `margins` and `norms` are (N, E, T) and `counts` is (N, E).

    Args:
        folder: The run folder.
        attack: The attack, as records name it.
        index: (B,) positions in the data set.
        eps: E budgets of the run.
        evaluations: (T,) numbers of evaluations at which curves are kept.
        found: By budget, (B, T) highest margins, (B, T) smallest winning norms, and (B,) counts.
    """
    few = index < MOST_IMAGES
    if not found or not few.any():
        return
    nobody = np.full((len(index), len(evaluations)), np.nan, np.float32)
    nothing = (nobody, np.full_like(nobody, np.inf), np.zeros(len(index), np.int64))
    columns = zip(*(found.get(budget, nothing) for budget in eps), strict=True)
    margins, norms, counts = (np.stack(column, axis=1)[few] for column in columns)
    new = {"index": index[few], "margins": margins, "norms": norms, "counts": counts}
    fixed = {"eps": np.asarray(eps, dtype=float), "evaluations": evaluations}
    name = f"curves-{short_file(attack)}"
    kept = {key: value for key, value in own_arrays(folder, name).items() if key in new}
    named = {**fixed, "attack": np.array(attack)}
    save_arrays(folder, name, {**replace_rows(kept, new), **named})
