"""Compute arrays of a run again that were damaged, from what its records say."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from robustcl.core.lazy import lazily
from robustcl.data.dataset import Dataset
from robustcl.evaluation.attack_records import attack_records
from robustcl.evaluation.check_model import keep_pixels
from robustcl.evaluation.clean_records import MOST_EMBEDDINGS, keep_embeddings
from robustcl.evaluation.job import EvaluationJob
from robustcl.evaluation.keeping import MOST_IMAGES
from robustcl.evaluation.recorded import sound_records
from robustcl.records.arrays import every_row, own_arrays, save_arrays
from robustcl.records.examples import TRIPLES
from robustcl.records.images import model_attacks, per_image, sound_certificates
from robustcl.records.ranks import own_chunks, rank
from robustcl.records.reading import Run, run_of
from robustcl.records.writing import slug

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazily("pandas")


def rebuild_arrays(job: EvaluationJob, dataset: Dataset, lost: Sequence[str]) -> None:
    """Compute the rows again that arrays lack, by the attacks that made them.

    Attacks run on the batches of the run, with the seeds of the run; their records stay as they
    are. Each process does so for its own batches.

    Args:
        job: The job, after its records were written.
        dataset: The images.
        lost: Names of arrays that may lack rows.
    """
    if "flagged" in lost and not rank():
        keep_pixels(job.folder, dataset, job.manifest.get("flags") or ())
    names = set(lost) - {"flagged"}
    if not names:
        return
    records = sound_records(job.folder, job.manifest)
    run = run_of(job.folder, job.manifest, records)
    wanted = _wanted(job, run, names, len(dataset))
    job = replace(job, proved=sound_certificates(run), images=per_image(run))
    clean = run.clean.set_index("index")["predicted"]
    for rows in own_chunks(len(dataset), min(job.audit.batch_size, len(dataset))):
        if not np.isin(rows, clean.index).all():
            continue  # another process is at it
        for start in range(0, len(rows), job.batch_size):
            part = rows[start : start + job.batch_size]
            batch = dataset.batch(part).to(job.device)
            left = torch.tensor(clean.loc[part.tolist()].tolist(), device=job.device)
            for text, images in wanted.items():
                if not np.isin(part, images).any():
                    continue
                if text:
                    attack_records(job, batch, left, text)
                else:
                    keep_embeddings(job, batch)
    if "triples" in names:
        _keep_shown(job, run)


def _wanted(job: EvaluationJob, run: Run, names: set[str], count: int) -> dict[str, np.ndarray]:
    # By attack ('' for embeddings), the images of which a row is lacking.
    wanted: dict[str, np.ndarray] = {}
    if "embeddings" in names:
        wanted[""] = _lacking(job, "embeddings", np.arange(min(count, MOST_EMBEDDINGS)))
    for text in job.audit.attacks:
        name = f"curves-{slug(text)}"
        if name in names:
            wanted[text] = _lacking(job, name, np.arange(min(count, MOST_IMAGES)))
    if "triples" in names:
        # A row may be there by an attack that came less near.
        there = every_row(job.folder, "triples", lenient=True)
        near = dict[int, float]()
        for index, radius in zip(there.get("index", ()), there.get("radius", ()), strict=True):
            near[int(index)] = min(float(radius), near.get(int(index), np.inf))
        for text, rows in _shown(run).groupby("method"):
            pairs = zip(rows["index"].tolist(), rows["radius"].tolist(), strict=True)
            lacking = np.array(
                [i for i, r in pairs if not near.get(i, np.inf) <= r * (1 + 1e-9)], dtype=int
            )
            wanted[str(text)] = np.union1d(wanted.get(str(text), lacking), lacking)
    return wanted


def _lacking(job: EvaluationJob, name: str, images: np.ndarray) -> np.ndarray:
    there = every_row(job.folder, name, lenient=True, shared=("eps", "evaluations", "attack"))
    return np.setdiff1d(images, there.get("index", np.array([], dtype=int)))


def _keep_shown(job: EvaluationJob, run: Run) -> None:
    # Of the other images of a batch an attack that came nearer may not have run again.
    own = own_arrays(job.folder, "triples")
    if own:
        rows = np.isin(own["index"], _shown(run)["index"].to_numpy())
        save_arrays(job.folder, "triples", {key: value[rows] for key, value in own.items()})


def _shown(run: Run) -> pd.DataFrame:
    # The attack records of the nearest and of the farthest smallest perturbations.
    images = per_image(run)
    table = model_attacks(run)
    right = images.index[images["correct"]]
    found = table[table["index"].isin(right) & np.isfinite(table["radius"]) & (table["radius"] > 0)]
    best = found.sort_values(["radius", "index"]).drop_duplicates("index")
    if len(best) > 2 * TRIPLES:
        best = best.iloc[[*range(TRIPLES), *range(len(best) - TRIPLES, len(best))]]
    return best
