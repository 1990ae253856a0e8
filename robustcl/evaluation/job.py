"""Hold what every part of an audit is given, and write its records in one way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from robustcl import certify
from robustcl.core.classifier import Classifier
from robustcl.core.seeds import example_seed
from robustcl.data.dataset import Batch
from robustcl.evaluation.config import EvaluationConfig

if TYPE_CHECKING:
    import pandas as pd

    from robustcl.certify.methods import Prepared


@dataclass(frozen=True, eq=False)
class EvaluationJob:
    """Say what is measured, of which model, and how far it has come.

    Args:
        classifier: The model.
        exact: The same in float64, which is what certificates are about.
        audit: What is measured.
        folder: The run folder.
        manifest: Of the run.
        device: Where to compute.
        prepared: By method, what its certificates need for every batch.
        batch_size: Images per model call.
        proved: The deterministic certificates of the batch's images, once all are on record; None
            before that.
        images: What is on record of each of them then (see `per_image`).
        noise_batch: Noisy images per model call of methods that sample; None for their own.
        session: Number of this session in the manifest.
    """

    classifier: Classifier
    exact: Classifier
    audit: EvaluationConfig
    folder: Path
    manifest: dict[str, Any]
    device: str | torch.device
    prepared: dict[str, Prepared]
    batch_size: int = 1
    proved: pd.DataFrame | None = None
    images: pd.DataFrame | None = None
    session: int = 0
    noise_batch: int | None = None


def records_of(
    job: EvaluationJob, batch: Batch, kind: str, method: str, **columns: Tensor | np.ndarray
) -> list[dict[str, Any]]:
    """Write one record per image.

    Args:
        job: The job.
        batch: The images.
        kind: 'clean', 'certificate' or 'attack'.
        method: The method.
        **columns: One number per image each.

    Returns:
        The records.
    """
    common = {
        "kind": kind,
        "method": method,
        "config": job.manifest["config_hash"],
        "session": job.session,
    }
    values = {"index": batch.index, "label": batch.labels, **columns}
    rows = zip(*(column.tolist() for column in values.values()), strict=True)
    return [{**common, **dict(zip(values, row, strict=True))} for row in rows]


def compare_points(job: EvaluationJob, points: Tensor) -> None:
    """Compare the model with the certified network at points that an attack returned.

    Args:
        job: The job; without deterministic certificates nothing is compared.
        points: (B, C, H, W).
    """
    traced = (prepared for prepared in job.prepared.values() if prepared is not None)
    certify.compare(next(traced, None), job.classifier, points)


def seeds_of(job: EvaluationJob, batch: Batch, method: str) -> list[int]:
    """Give every image its own seed.

    Args:
        job: The job.
        batch: The images.
        method: The method, so that no two share their noise.

    Returns:
        One seed per image.
    """
    return [example_seed(job.audit.seed, index, method) for index in batch.index.tolist()]
