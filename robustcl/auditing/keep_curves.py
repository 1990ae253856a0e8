"""Keep how far an attack had come after each number of evaluations."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robustcl.runs.arrays import load_arrays, save_arrays
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
    margins, norms, counts = (np.stack(column)[:, few] for column in columns)
    new = {"index": index[few], "margins": margins, "norms": norms, "counts": counts}
    name = f"curves-{short_file(attack)}"
    kept = load_arrays(folder, name)
    if kept:
        stay = ~np.isin(kept["index"], new["index"])
        new = {
            key: np.concatenate(
                [kept[key][stay], value] if key == "index" else [kept[key][:, stay], value],
                axis=0 if key == "index" else 1,
            )
            for key, value in new.items()
        }
    fixed = {"eps": np.asarray(eps, dtype=float), "evaluations": evaluations}
    save_arrays(folder, name, {**new, **fixed, "attack": np.array(attack)})
