"""Keep a few images with their smallest perturbation, for the figure of the report."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustcl.runs.arrays import load_arrays, save_arrays
from robustcl.runs.records import read_lines

TRIPLES = 16  # of the nearest, and of the most robust images; figures show fewer


@dataclass(frozen=True, eq=False)
class Triples:
    """Hold images beside what an attack made of them.

    Args:
        index: (B,) positions in the data set.
        clean: (B, C, H, W).
        attacked: (B, C, H, W).
        radius: (B,) norm of the perturbation; infinite where none was found.
    """

    index: np.ndarray
    clean: np.ndarray
    attacked: np.ndarray
    radius: np.ndarray


def keep_triples(folder: Path, found: Triples) -> None:
    """Keep the nearest and the most robust of the images so far, in arrays/triples.npz.

    An image stays until another attack comes nearer; one that was let go comes back only when an
    attack beats every radius on record. So each picture shows the smallest perturbation.

    Args:
        folder: The run folder.
        found: Rightly classified images, which have no record of this attack yet.
    """
    known: dict[int, float] = {}
    for line in read_lines(folder):
        if line["kind"] == "attack" and line["radius"] is not None:
            known[line["index"]] = min(line["radius"], known.get(line["index"], np.inf))
    before = np.array([known.get(i, np.inf) for i in found.index.tolist()])
    rows = np.isfinite(found.radius) & (found.radius > 0) & (found.radius <= before)
    new = {key: value[rows] for key, value in vars(found).items()}
    kept = load_arrays(folder, "triples")
    if kept:
        stay = ~np.isin(kept["index"], new["index"])
        new = {key: np.concatenate([kept[key][stay], new[key]]) for key in new}
    order = np.argsort(new["radius"], kind="stable")
    if len(order) > 2 * TRIPLES:
        order = np.concatenate([order[:TRIPLES], order[-TRIPLES:]])
    save_arrays(folder, "triples", {key: value[order] for key, value in new.items()})
