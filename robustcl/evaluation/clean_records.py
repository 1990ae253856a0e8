"""Measure the records of clean images."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from robustcl import certify
from robustcl.calibration import fit_temperature, measure_calibration
from robustcl.core.abstention import answered, predict
from robustcl.core.batching import count_forward_passes, fixed_size
from robustcl.core.errors import InputError
from robustcl.core.objectives import score_margin
from robustcl.data.dataset import Batch
from robustcl.evaluation.attack_records import attack_records, ball_records, not_attacked
from robustcl.evaluation.job import EvaluationJob, records_of, seeds_of
from robustcl.evaluation.recorded import Recorded
from robustcl.records.arrays import own_arrays, replace_rows, save_arrays
from robustcl.records.images import per_image, sound_certificates
from robustcl.records.kinds import CERTIFIED_BALL
from robustcl.records.lines import Measure
from robustcl.records.reading import run_of
from robustcl.records.writing import append_records, sync_records


def temperature_of(scores: Tensor, labels: Tensor) -> float:
    """Fit a temperature on the images that have scores.

    Args:
        scores: (N, K) of held-out images; those that are not finite are left out.
        labels: (N,) their classes.

    Returns:
        T.
    """
    known = _some(scores)
    return fit_temperature(scores[known], labels[known])


def shares_of(scores: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Turn the scores of images that have some into probabilities.

    Args:
        scores: (N, K).
        labels: (N,) classes.
        temperature: T.

    Returns:
        (M, K) probabilities and (M,) classes of the M <= N images whose scores are finite.
    """
    known = _some(scores)
    return torch.softmax(scores[known].double() / temperature, dim=1), labels[known]


def calibration_of(scores: Tensor, labels: Tensor, temperature: float) -> dict[str, float]:
    """Measure calibration.

    Args:
        scores: (N, K).
        labels: (N,) classes.
        temperature: T.

    Returns:
        As `measure_calibration` of the images that have scores, but for the accuracy, in which the
        others are wrong, and `abstained`, their number.
    """
    found = measure_calibration(*shares_of(scores, labels, temperature))
    found["accuracy"] = float((predict(scores) == labels).double().mean())
    return {**found, "abstained": float((~answered(scores)).sum())}


def _some(scores: Tensor) -> Tensor:
    known = answered(scores)
    if not bool(known.any()):
        raise InputError(
            f"the model abstains on all {len(scores)} images, as its embeddings are 0 or not "
            "finite; train it again, or give other images"
        )
    return known


MOST_EMBEDDINGS = 2048  # of the first images, for the map in the report

_Records = list[dict[str, Any]]


def measure_batch(
    job: EvaluationJob, batch: Batch, kept: Recorded, *, say: Callable[[str], object]
) -> list[int]:
    """Write the records of a batch that are not on the disk: clean, certificates, then attacks.

    Args:
        job: The job.
        batch: The images, on the CPU.
        kept: What is on the disk.
        say: Is told the method that is at work.

    Returns:
        The images whose clean scores were computed now and are not finite.
    """
    rows = batch.index.numpy()
    records = kept.known(rows)
    lacking = [measure for measure in job.audit.measures if kept.lacks(measure, rows)]
    there = batch.to(job.device)
    for kind, text in lacking:
        if kind == "attack" and job.images is None:
            job = _with_certificates(job, records)
        say(text)
        records += _recorded(job, there, records, (kind, text), kept)
    sync_records(job.folder)
    fresh = ("clean", "clean") in lacking
    return [r["index"] for r in records if fresh and r["kind"] == "clean" and r["predicted"] < 0]


def record_measure(
    job: EvaluationJob, batch: Batch, before: _Records, measure: Measure, kept: Recorded
) -> _Records:
    """Write the records of a batch by one measure.

    Args:
        job: The job.
        batch: The images, on the CPU.
        before: Records of these images, those of earlier measures among them.
        measure: Kind and method.
        kept: What is on the disk; records that are there are not written again.

    Returns:
        The new records.
    """
    if measure[0] == "attack":
        job = _with_certificates(job, before)
    made = _recorded(job, batch.to(job.device), before, measure, kept)
    sync_records(job.folder)
    return made


def _with_certificates(job: EvaluationJob, records: _Records) -> EvaluationJob:
    # Attacks put certificates to the test.
    run = run_of(job.folder, job.manifest, records)
    return replace(job, proved=sound_certificates(run), images=per_image(run))


def _recorded(
    job: EvaluationJob, batch: Batch, before: _Records, measure: Measure, kept: Recorded
) -> _Records:
    # Each record bears its share of the time and, where they are not its own, of the passes.
    kind, text = measure
    begun = time.monotonic()
    with count_forward_passes(job.classifier.encoder) as seen:
        if kind == "clean":
            records = _clean(job, batch)
        elif kind == "certificate":
            records = _certificates(job, batch, text)
        else:
            records = _attacked(job, batch, before, text)
    seconds = (time.monotonic() - begun) / len(batch)
    costs = {"forwards": -(-sum(seen) // len(batch)), "seconds": seconds}
    done = kept.done[measure]
    fresh = [{**costs, **record} for record in records if not done[record["index"]]]
    append_records(job.folder, fresh)
    return fresh


def _clean(job: EvaluationJob, batch: Batch) -> _Records:
    with torch.no_grad():
        scores = fixed_size(job.classifier, batch.images, batch_size=job.batch_size)
    predicted = predict(scores)
    margins = -score_margin(scores, predicted.clamp_min(0)).double()
    # Infinity is no number in a record: it is what overflows, and is as large.
    margins = margins.clamp_max(sys.float_info.max).masked_fill(predicted < 0, torch.nan)  # null
    keep_embeddings(job, batch)
    return records_of(job, batch, "clean", "clean", predicted=predicted, margin=margins)


def keep_embeddings(job: EvaluationJob, batch: Batch) -> None:
    """Keep the embeddings of the first images of a data set, in arrays/embeddings.npz.

    Args:
        job: The job.
        batch: The images.
    """
    few = (batch.index < MOST_EMBEDDINGS).numpy()
    if not few.any():
        return
    with torch.no_grad():
        points = fixed_size(job.classifier.embeddings, batch.images, batch_size=job.batch_size)
    few &= answered(points).cpu().numpy()
    columns = {
        "index": batch.index.numpy(),
        "labels": batch.labels.cpu().numpy(),
        "embeddings": points.float().cpu().numpy(),
    }
    new = {key: value[few] for key, value in columns.items()}
    kept = own_arrays(job.folder, "embeddings")
    save_arrays(job.folder, "embeddings", replace_rows(kept, new), compress=False)


def _attacked(job: EvaluationJob, batch: Batch, before: _Records, text: str) -> _Records:
    # An image without a predicted class has none to be left: it is recorded, and not attacked.
    clean = {row["index"]: row["predicted"] for row in before if row["kind"] == "clean"}
    left = torch.tensor([clean[index] for index in batch.index.tolist()])
    known = torch.nonzero(left >= 0)[:, 0]
    records = []
    if len(known):
        function = ball_records if text == CERTIFIED_BALL else attack_records
        records = function(job, batch.select(known), left[known].to(job.device), text)
    if len(known) < len(batch):
        records += not_attacked(job, batch.select(torch.nonzero(left < 0)[:, 0]), text)
    return records


def _certificates(job: EvaluationJob, batch: Batch, text: str) -> _Records:
    claim = certify.certificate(
        certify.parse_method(text),
        job.classifier,
        batch.images,
        norm=job.audit.norm,
        seeds=seeds_of(job, batch, text),
        prepared=job.prepared[text],
        batch_size=job.noise_batch,
    )
    # In a record, null is a radius that is endless, and so nothing else may become null.
    radius = claim.radius.masked_fill(claim.radius.isnan() | (claim.predicted < 0), 0.0)
    rival = claim.rival.masked_fill(radius.isinf(), -1)
    columns = {"predicted": claim.predicted, "radius": radius, "rival": rival}
    terms = {"norm": claim.norm, "guarantee": claim.guarantee, "subject": claim.subject}
    records = [{**row, **terms} for row in records_of(job, batch, "certificate", text, **columns)]
    if isinstance(claim.method, str):
        return records
    return [{**row, "by": name} for row, name in zip(records, claim.method, strict=True)]
