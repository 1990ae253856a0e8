"""Audit a classifier: clean accuracy, certificates and attacks, one record per image and method."""

import copy
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

import certify
from robustcl.auditing.attack_records import attack_records
from robustcl.auditing.audit import Audit
from robustcl.auditing.audit_job import AuditJob, records_of, seeds_of
from robustcl.auditing.ball_records import ball_records
from robustcl.auditing.check_model import check_model
from robustcl.auditing.manifest import NOWHERE, Origin, run_manifest
from robustcl.batching import padded
from robustcl.classifier import Classifier
from robustcl.data.batch import Batch
from robustcl.data.dataset import Dataset
from robustcl.errors import InputError
from robustcl.frozen import frozen
from robustcl.objectives import score_margin
from robustcl.out_of_memory import halving
from robustcl.rows_seen import rows_seen
from robustcl.runs.arrays import save_arrays
from robustcl.runs.per_image import per_image, sound_certificates
from robustcl.runs.records import (
    CERTIFIED_BALL,
    append_records,
    finish_run,
    load_run,
    read_lines,
    record_key,
    start_run,
)


def evaluate(
    classifier: Classifier,
    dataset: Dataset,
    audit: Audit,
    folder: Path,
    *,
    origin: Origin = NOWHERE,
    device: str | torch.device = "cpu",
    resume: bool = False,
    progress: bool = True,
) -> None:
    """Measure every image by every method and write a run folder.

    An interrupted run leaves whole records and goes on with `resume`; it ends with the same
    records as a run in one go, since every example has its own seed and the batches are the same.
    Certificates and attacks are asked about the *predicted* class; labels enter the summary only.

    Args:
        classifier: The model; it is evaluated in eval mode and left as it was.
        dataset: The images.
        audit: What is measured.
        folder: The run folder.
        origin: Checkpoint and command, for the manifest.
        device: Where to compute.
        resume: Whether to go on with a run in the folder.
        progress: Whether to show a bar on stderr.

    Raises:
        InputError: When images or labels do not fit the classifier.
    """
    _check(classifier, dataset)
    started = time.monotonic()
    manifest = run_manifest(classifier, dataset, audit, origin, str(device))
    home = classifier.encoder.mean.device
    with frozen(classifier):
        try:
            classifier.to(device)
            prepared = {
                text: certify.prepare(certify.parse_method(text), classifier, norm=audit.norm)
                for text in audit.methods
            }
            start_run(folder, manifest, resume=resume)
            check_model(classifier, dataset, audit, folder, device=device)
            exact = copy.deepcopy(classifier).double()
            job = AuditJob(classifier, exact, audit, folder, manifest, device, prepared)
            used = halving(
                lambda size: _measure(replace(job, batch_size=size), dataset, progress=progress),
                min(audit.batch_size, len(dataset)),  # a small data set is not filled up
            )
        finally:
            classifier.to(home)
    seconds = time.monotonic() - started
    finish_run(folder, seconds=seconds, extra={"batch_size_used": used})


def _check(classifier: Classifier, dataset: Dataset) -> None:
    if dataset.image_shape != classifier.image_shape:
        raise InputError(
            f"{dataset.name!r} has images of shape {dataset.image_shape} (C, H, W) but the encoder "
            f"takes {classifier.image_shape}; add ',size=N' to the data, or use other data"
        )
    if int(dataset.labels.max()) >= classifier.num_classes:
        raise InputError(
            f"{dataset.name!r} has the label {int(dataset.labels.max())} but the classifier has "
            f"{classifier.num_classes} classes; probe the checkpoint on this data"
        )


_Task = tuple[str, str, Callable[[AuditJob, Batch, Tensor, str], list[dict[str, Any]]]]


def _measure(job: AuditJob, dataset: Dataset, *, progress: bool) -> int:
    # Called again with a smaller batch when memory runs out: what is on the disk is kept.
    job = replace(job, done=frozenset(map(record_key, read_lines(job.folder))))
    predicted = _clean(job, dataset)
    with _bar(progress) as bar:
        for text in job.audit.methods:
            _each(job, dataset, predicted, ("certificate", text, _certify), bar)
        run = load_run(job.folder)  # certificates are complete: attacks put them to the test
        job = replace(job, proved=sound_certificates(run), images=per_image(run))
        if job.audit.tests_balls:
            _each(job, dataset, predicted, ("attack", CERTIFIED_BALL, ball_records), bar)
        for text in job.audit.attacks:
            _each(job, dataset, predicted, ("attack", text, attack_records), bar)
    return job.batch_size


def _each(job: AuditJob, dataset: Dataset, predicted: Tensor, task: _Task, bar: Progress) -> None:
    kind, text, function = task
    shown = bar.add_task(text, total=len(dataset))
    for batch in dataset.batches(job.batch_size):
        if any((kind, index, text) not in job.done for index in batch.index.tolist()):
            left = predicted[batch.index].to(job.device)
            _append(job, batch, partial(function, job, batch.to(job.device), left, text))
        bar.advance(shown, len(batch))


def _append(job: AuditJob, batch: Batch, compute: Callable[[], list[dict[str, Any]]]) -> None:
    # Each record bears its share of the time and, where they are not its own, of the passes.
    begun = time.monotonic()
    with rows_seen(job.classifier.encoder) as seen:
        records = compute()
    seconds = (time.monotonic() - begun) / len(batch)
    costs = {"forwards": -(-sum(seen) // len(batch)), "seconds": seconds}
    fresh = [record for record in records if record_key(record) not in job.done]
    append_records(job.folder, [{**costs, **record} for record in fresh])


def _clean(job: AuditJob, dataset: Dataset) -> Tensor:
    predictions, embeddings = [], []

    def compute(batch: Batch) -> list[dict[str, Any]]:
        images = batch.images.to(job.device)
        with torch.no_grad():
            points = padded(job.classifier.embeddings, images, batch_size=job.batch_size)
            scores = padded(job.classifier, images, batch_size=job.batch_size)
        if not bool(torch.isfinite(scores).all()):
            row = int(torch.nonzero(~torch.isfinite(scores).all(dim=1))[0, 0])
            raise InputError(f"image {int(batch.index[row])} gets scores that are not finite")
        predicted = scores.argmax(dim=1)
        margins = -score_margin(scores, predicted).double()
        predictions.append(predicted.cpu())
        embeddings.append(points.float().cpu().numpy())
        return records_of(job, batch, "clean", "clean", predicted=predicted, margin=margins)

    for batch in dataset.batches(job.batch_size):
        _append(job, batch, partial(compute, batch))
    arrays = {"index": np.arange(len(dataset)), "labels": dataset.labels}
    save_arrays(job.folder, "embeddings", {**arrays, "embeddings": np.concatenate(embeddings)})
    return torch.cat(predictions)


def _certify(job: AuditJob, batch: Batch, left: Tensor, text: str) -> list[dict[str, Any]]:
    del left  # a certificate states its own prediction
    claim = certify.certificate(
        certify.parse_method(text),
        job.classifier,
        batch.images,
        norm=job.audit.norm,
        seeds=seeds_of(job, batch, text),
        prepared=job.prepared[text],
    )
    columns = {"predicted": claim.predicted, "radius": claim.radius, "rival": claim.rival}
    terms = {"norm": claim.norm, "guarantee": claim.guarantee, "subject": claim.subject}
    records = [{**row, **terms} for row in records_of(job, batch, "certificate", text, **columns)]
    if isinstance(claim.method, str):
        return records
    return [{**row, "by": name} for row, name in zip(records, claim.method, strict=True)]


def _bar(visible: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        disable=not visible,
    )
