"""Keep a few images with their smallest perturbation, for the figure of the report."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustcl.runs.arrays import every_row, own_arrays, save_arrays
from robustcl.runs.triples import extremes, smallest


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


def keep_triples(folder: Path, found: Triples, *, last: bool) -> None:
    """Keep the smallest perturbation of each image of a batch, in arrays/triples.npz.

    All images of a batch stay until its last attack is over; then only the nearest and the most
    robust ones of all so far do. So the choice depends neither on the order of batches nor on
    interruptions.

    Args:
        folder: The run folder.
        found: Rightly classified images of one batch.
        last: Whether no further attack on the batch follows.
    """
    rows = np.isfinite(found.radius) & (found.radius > 0)
    parts = [{key: value[rows] for key, value in vars(found).items()}]
    own, everybody = own_arrays(folder, "triples"), every_row(folder, "triples", lenient=True)
    if everybody:  # an earlier attack on the batch may have been another process's
        same = np.isin(everybody["index"], found.index)
        parts.append({key: value[same] for key, value in everybody.items()})
    if own:
        other = ~np.isin(own["index"], found.index)
        parts.append({key: value[other] for key, value in own.items()})
    new = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    save_arrays(folder, "triples", extremes(new) if last else smallest(new))
