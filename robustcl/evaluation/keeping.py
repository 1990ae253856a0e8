"""Keep what records have no room for: curves, example images, violations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from robustcl.core.hashes import network_hash
from robustcl.core.lazy import lazily
from robustcl.core.output_folder import OutputFolder
from robustcl.data.dataset import Batch
from robustcl.evaluation.job import EvaluationJob, seeds_of
from robustcl.evaluation.reproducer import Reproducer, Violation, reproducer_bytes
from robustcl.records.arrays import every_row, own_arrays, replace_rows, save_arrays
from robustcl.records.beaten import violation_file, violations
from robustcl.records.examples import extremes, smallest
from robustcl.records.writing import slug

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
    name = f"curves-{slug(attack)}"
    kept = {key: value for key, value in own_arrays(folder, name).items() if key in new}
    named = {**fixed, "attack": np.array(attack)}
    save_arrays(folder, name, {**replace_rows(kept, new), **named})


@dataclass(frozen=True, eq=False)
class ExampleImages:
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


def keep_examples(folder: Path, found: ExampleImages, *, last: bool) -> None:
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


if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazily("pandas")


def keep_violations(
    job: EvaluationJob, batch: Batch, records: list[dict[str, Any]], attacked: Tensor
) -> None:
    """Write a reproducer of every certificate that an attack has beaten, in violations/.

    Args:
        job: The job.
        batch: The images.
        records: What is about to be recorded of an attack on them.
        attacked: (B, C, H, W) what the attack made of them.
    """
    if job.proved is None or job.proved.empty:
        return
    beaten, _ = violations(job.proved, pd.DataFrame(records))
    manifest, rows = job.manifest, {index: row for row, index in enumerate(batch.index.tolist())}
    for one in beaten:
        row = rows[one["index"]]
        image, point = batch.images[row].cpu(), attacked[row].cpu()
        with torch.no_grad():
            scores = job.exact(point.double()[None].to(job.device))
        violation = Violation(
            index=one["index"],
            predicted=records[row]["predicted"],
            rival=int(scores.argmax()),
            norm=job.audit.norm,
            certified=one["certified"],
            certificate=one["method"],
            attacked=one["attacked"],
            attack=one["attack"],
            seed=job.audit.seed,
            example_seed=seeds_of(job, batch, one["attack"])[row],
            network=network_hash(job.classifier),
            checkpoint=manifest["hashes"]["checkpoint"],
            data=manifest["config"]["data"],
            data_hash=manifest["hashes"]["data"],
            config_hash=manifest["config_hash"],
            device=manifest["device"],
            versions=manifest["versions"],
        )
        found = Reproducer(violation, image, point.double() - image.double())
        OutputFolder(job.folder).write_bytes(violation_file(one), reproducer_bytes(found))
