"""Audit a classifier: clean accuracy, certificates and attacks, one record per image and method."""

import copy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

import attacks
import certify
from robustcl.audit import Audit
from robustcl.batching import padded
from robustcl.classifier import Classifier
from robustcl.data.batch import Batch
from robustcl.data.dataset import Dataset
from robustcl.errors import InputError
from robustcl.frozen import frozen
from robustcl.manifest import run_manifest
from robustcl.objectives import Objective, misclassify, score_margin
from robustcl.out_of_memory import halving
from robustcl.per_image import per_image
from robustcl.records import (
    Key,
    append_records,
    finish_run,
    load_arrays,
    load_run,
    read_lines,
    record_key,
    save_arrays,
    start_run,
)
from robustcl.seeds import example_seed
from robustcl.threat import Threat

TRIPLES = 16  # of the nearest, and of the most robust images; figures show fewer


def evaluate(
    classifier: Classifier,
    dataset: Dataset,
    audit: Audit,
    folder: Path,
    *,
    checkpoint_hash: str = "",
    command: str = "",
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
        checkpoint_hash: SHA-256 of the checkpoint, for the manifest.
        command: The command line, for the manifest.
        device: Where to compute.
        resume: Whether to go on with a run in the folder.
        progress: Whether to show a bar on stderr.

    Raises:
        InputError: When images or labels do not fit the classifier.
    """
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
    started = time.monotonic()
    manifest = run_manifest(classifier, dataset, audit, checkpoint_hash, command, str(device))
    home = classifier.encoder.mean.device
    with frozen(classifier):
        try:
            classifier.to(device)
            prepared = {
                text: certify.prepare(certify.parse_method(text), classifier, norm=audit.norm)
                for text in audit.methods
            }
            start_run(folder, manifest, resume=resume)
            exact = copy.deepcopy(classifier).double()
            job = _Job(classifier, exact, audit, folder, manifest["config_hash"], device, prepared)
            used = halving(
                lambda size: _measure(replace(job, batch_size=size), dataset, progress=progress),
                min(audit.batch_size, len(dataset)),  # a small data set is not filled up
            )
        finally:
            classifier.to(home)
    seconds = time.monotonic() - started
    finish_run(folder, seconds=seconds, extra={"batch_size_used": used})


_Task = Callable[["_Job", Batch, Tensor, str], list[dict[str, Any]]]


@dataclass(frozen=True, eq=False)
class _Job:
    classifier: Classifier
    exact: Classifier  # the same in float64, which is what certificates are about
    audit: Audit
    folder: Path
    config: str
    device: str | torch.device
    prepared: dict[str, Any]
    batch_size: int = 1
    done: frozenset[Key] = frozenset()


def _measure(job: _Job, dataset: Dataset, *, progress: bool) -> int:
    # Called again with a smaller batch when memory runs out: what is on the disk is kept.
    job = replace(job, done=frozenset(map(record_key, read_lines(job.folder))))
    tasks: list[tuple[str, str, _Task]] = [
        *(("certificate", text, _certify) for text in job.audit.methods),
        *(("attack", text, _attack) for text in job.audit.attacks),
    ]
    predicted = _clean(job, dataset)
    with _bar(progress) as bar:
        for kind, text, function in tasks:
            task = bar.add_task(text, total=len(dataset))
            for batch in dataset.batches(job.batch_size):
                missing = {i for i in batch.index.tolist() if (kind, i, text) not in job.done}
                if missing:
                    begun = time.monotonic()
                    left = predicted[batch.index].to(job.device)
                    records = function(job, batch.to(job.device), left, text)
                    share = (time.monotonic() - begun) / len(batch)
                    fresh = [record for record in records if record["index"] in missing]
                    append_records(job.folder, [{**record, "seconds": share} for record in fresh])
                bar.advance(task, len(batch))
    return job.batch_size


def _records(
    job: _Job, batch: Batch, kind: str, method: str, **columns: Tensor | np.ndarray
) -> list[dict[str, Any]]:
    # One record per image; the columns hold one number per image.
    common = {"kind": kind, "method": method, "config": job.config}
    values = {"index": batch.index, "label": batch.labels, **columns}
    rows = zip(*(column.tolist() for column in values.values()), strict=True)
    return [{**common, **dict(zip(values, row, strict=True))} for row in rows]


def _clean(job: _Job, dataset: Dataset) -> Tensor:
    predictions, embeddings = [], []
    for batch in dataset.batches(job.batch_size):
        begun = time.monotonic()
        images = batch.images.to(job.device)
        with torch.no_grad():
            points = padded(job.classifier.embeddings, images, batch_size=job.batch_size)
            scores = padded(job.classifier, images, batch_size=job.batch_size)
        if not bool(torch.isfinite(scores).all()):
            row = int(torch.nonzero(~torch.isfinite(scores).all(dim=1))[0, 0])
            raise InputError(f"image {int(batch.index[row])} gets scores that are not finite")
        predicted = scores.argmax(dim=1)
        margins = -score_margin(scores, predicted).double()
        share = (time.monotonic() - begun) / len(batch)
        records = _records(job, batch, "clean", "clean", predicted=predicted, margin=margins)
        fresh = [record for record in records if record_key(record) not in job.done]
        append_records(job.folder, [{**record, "seconds": share} for record in fresh])
        predictions.append(predicted.cpu())
        embeddings.append(points.float().cpu().numpy())
    arrays = {"index": np.arange(len(dataset)), "labels": dataset.labels}
    save_arrays(job.folder, "embeddings", {**arrays, "embeddings": np.concatenate(embeddings)})
    return torch.cat(predictions)


def _certify(job: _Job, batch: Batch, left: Tensor, text: str) -> list[dict[str, Any]]:
    del left  # a certificate states its own prediction
    claim = certify.certificate(
        certify.parse_method(text),
        job.classifier,
        batch.images,
        norm=job.audit.norm,
        seeds=_seeds(job, batch, text),
        prepared=job.prepared[text],
    )
    columns = {"predicted": claim.predicted, "radius": claim.radius, "rival": claim.rival}
    terms = {"norm": claim.norm, "guarantee": claim.guarantee, "subject": claim.subject}
    records = [{**row, **terms} for row in _records(job, batch, "certificate", text, **columns)]
    if isinstance(claim.method, str):
        return records
    return [{**row, "by": name} for row, name in zip(records, claim.method, strict=True)]


def _attack(job: _Job, batch: Batch, left: Tensor, text: str) -> list[dict[str, Any]]:
    specification = attacks.parse_attack(text)
    options: dict[str, Any] = dict(specification.options)
    objective = misclassify(job.classifier, left)
    seeds = _seeds(job, batch, text)
    columns: dict[str, Any] = {"predicted": left}
    if job.audit.screened:
        finding, costs = _screened(job, objective, batch, seeds, options)
        columns |= costs
    else:
        finding = attacks.attacked_radius(
            specification.name,
            objective,
            batch.images,
            norm=job.audit.norm,
            eps_grid=job.audit.eps,
            seeds=seeds,
            batch_size=job.batch_size,
            **options,
        )
    _keep_triples(job.folder, batch, finding, right=left == batch.labels)
    with torch.no_grad():
        points = finding.adversarials.double().to(job.device)
        in_float64 = misclassify(job.exact, left).margin(points) > 0
    columns |= {
        "radius": finding.radius,
        "gradients": finding.gradients,
        "in_float64": in_float64 | ~torch.isfinite(finding.radius.to(in_float64.device)),
    }
    terms = {"norm": job.audit.norm, "eps": list(job.audit.eps), "subject": "model"}
    if finding.note:
        terms["note"] = finding.note
    return [{**row, **terms} for row in _records(job, batch, "attack", text, **columns)]


def _screened(
    job: _Job, objective: Objective, batch: Batch, seeds: list[int], options: dict[str, Any]
) -> tuple[attacks.Finding, dict[str, Any]]:
    # The certificates of the batch are on record: each batch is certified before it is attacked.
    images = per_image(load_run(job.folder)).reindex(batch.index.tolist())
    certified = torch.tensor(images["certified"].tolist(), dtype=torch.float64)
    found = attacks.screened(
        objective,
        batch.images,
        Threat(job.audit.norm, job.audit.eps[0]),
        certified=certified,
        seeds=seeds,
        batch_size=job.batch_size,
        **options,
    )
    costs = {
        "decided": np.array(found.decided),
        "forwards": found.finding.forwards,
        "reference_forwards": found.reference_forwards,
        "reference_gradients": found.reference_gradients,
    }
    return found.finding, costs


def _keep_triples(folder: Path, batch: Batch, finding: attacks.Finding, *, right: Tensor) -> None:
    # Keep adversarials of the nearest and the most robust of the rightly classified images. An
    # image stays until another attack comes nearer; one that was let go comes back only when an
    # attack beats every radius on record. So each picture shows the smallest perturbation.
    lines = (line for line in read_lines(folder) if line["kind"] == "attack")
    known: dict[int, float] = {}
    for line in lines:
        if line["radius"] is not None:
            known[line["index"]] = min(line["radius"], known.get(line["index"], np.inf))
    radius = finding.radius.cpu().numpy()
    index = batch.index.numpy()
    before = np.array([known.get(i, np.inf) for i in index.tolist()])
    rows = np.isfinite(radius) & (radius > 0) & (radius <= before) & right.cpu().numpy()
    new = {
        "index": index[rows],
        "clean": batch.images.cpu().numpy()[rows],
        "attacked": finding.adversarials.detach().cpu().float().numpy()[rows],
        "radius": radius[rows],
    }
    kept = load_arrays(folder, "triples")
    if kept:
        stay = ~np.isin(kept["index"], new["index"])
        new = {key: np.concatenate([kept[key][stay], new[key]]) for key in new}
    order = np.argsort(new["radius"], kind="stable")
    if len(order) > 2 * TRIPLES:
        order = np.concatenate([order[:TRIPLES], order[-TRIPLES:]])
    save_arrays(folder, "triples", {key: value[order] for key, value in new.items()})


def _seeds(job: _Job, batch: Batch, text: str) -> list[int]:
    return [example_seed(job.audit.seed, index, text) for index in batch.index.tolist()]


def _bar(visible: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        disable=not visible,
    )
