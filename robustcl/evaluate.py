"""Audit a classifier: clean accuracy, certificates and attacks, one record per image and method."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

import attacks
import certify
from robustcl.batching import padded
from robustcl.classifier import Classifier
from robustcl.data.batch import Batch
from robustcl.data.dataset import Dataset
from robustcl.errors import InputError
from robustcl.frozen import frozen
from robustcl.manifest import run_manifest
from robustcl.objectives import misclassify, score_margin
from robustcl.records import (
    Key,
    append_records,
    finish_run,
    load_arrays,
    save_arrays,
    start_run,
)
from robustcl.seeds import example_seed
from robustcl.threat import Norm, check_norm

DEFAULT_EPS: dict[str, tuple[float, ...]] = {
    "l2": (0.1, 0.25, 0.5, 1.0, 2.0),
    "linf": (2 / 255, 4 / 255, 8 / 255, 16 / 255, 32 / 255),
}
TRIPLES = 4  # of the nearest, and of the most robust images


@dataclass(frozen=True)
class Audit:
    """State what is measured.

    Args:
        norm: 'l2' or 'linf'.
        methods: Certificates, as in 'smoothing:sigma=.25,n=1000'.
        attacks: Attacks, as in 'pgd:steps=100'.
        eps: Ascending budgets of the attacks, in pixel units.
        seed: Seed of all noise.
        batch_size: Images per model call.

    Raises:
        InputError: When a method, an attack or an option is unknown, does not treat the norm, or
            the budgets are not positive and ascending.
    """

    norm: Norm = "l2"
    methods: tuple[str, ...] = ("product",)
    attacks: tuple[str, ...] = ("pgd",)
    eps: tuple[float, ...] = DEFAULT_EPS["l2"]
    seed: int = 0
    batch_size: int = 128

    def __post_init__(self) -> None:
        check_norm(self.norm)
        for text in self.methods:
            method = certify.METHODS[certify.parse_method(text).name]
            if self.norm not in method.norms:
                raise InputError(
                    f"{method.name} gives no {self.norm} radius, only {', '.join(method.norms)}"
                )
        for text in self.attacks:
            attacks.parse_attack(text)
        if self.batch_size < 1:
            raise InputError(f"batch_size {self.batch_size} is below 1")
        steps = zip((0.0, *self.eps), self.eps, strict=False)
        if not self.eps or not all(low < high < np.inf for low, high in steps):
            raise InputError(f"eps {self.eps} is not positive and ascending; write 0.1,0.25,0.5")


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
        classifier.to(device)
        prepared = {
            text: certify.prepare(certify.parse_method(text), classifier, norm=audit.norm)
            for text in audit.methods
        }
        done = start_run(folder, manifest, resume=resume)
        job = _Job(classifier, audit, folder, manifest["config_hash"], device, prepared, done)
        try:
            _measure(job, dataset, progress=progress)
        finally:
            classifier.to(home)
    finish_run(folder, seconds=time.monotonic() - started, extra={})


@dataclass(frozen=True, eq=False)
class _Job:
    classifier: Classifier
    audit: Audit
    folder: Path
    config: str
    device: str | torch.device
    prepared: dict[str, Any]
    done: set[Key]


def _measure(job: _Job, dataset: Dataset, *, progress: bool) -> None:
    audit = job.audit
    tasks: list[tuple[str, str, Callable[[_Job, Batch, Tensor, str], list[dict[str, Any]]]]] = [
        *(("certificate", text, _certify) for text in audit.methods),
        *(("attack", text, _attack) for text in audit.attacks),
    ]
    predicted = _clean(job, dataset)
    with _bar(progress) as bar:
        for kind, text, function in tasks:
            task = bar.add_task(text, total=len(dataset))
            for batch in dataset.batches(audit.batch_size):
                missing = [i for i in batch.index.tolist() if (kind, i, text) not in job.done]
                if missing:
                    begun = time.monotonic()
                    left = predicted[batch.index].to(job.device)
                    records = function(job, batch.to(job.device), left, text)
                    share = (time.monotonic() - begun) / len(batch)
                    fresh = [record for record in records if record["index"] in set(missing)]
                    append_records(job.folder, [{**record, "seconds": share} for record in fresh])
                bar.advance(task, len(batch))


def _clean(job: _Job, dataset: Dataset) -> Tensor:
    size = job.audit.batch_size
    predictions, embeddings = [], []
    for batch in dataset.batches(size):
        begun = time.monotonic()
        images = batch.images.to(job.device)
        with torch.no_grad():
            points = padded(job.classifier.embeddings, images, batch_size=size)
            scores = padded(job.classifier, images, batch_size=size)
        if not bool(torch.isfinite(scores).all()):
            row = int(torch.nonzero(~torch.isfinite(scores).all(dim=1))[0, 0])
            raise InputError(f"image {int(batch.index[row])} gets scores that are not finite")
        predicted = scores.argmax(dim=1)
        margins = -score_margin(scores, predicted).double()
        share = (time.monotonic() - begun) / len(batch)
        rows = zip(
            *(t.tolist() for t in (batch.index, batch.labels, predicted, margins)), strict=True
        )
        append_records(
            job.folder,
            [
                {
                    "kind": "clean",
                    "index": index,
                    "method": "clean",
                    "config": job.config,
                    "label": label,
                    "predicted": p,
                    "margin": margin,
                    "seconds": share,
                }
                for index, label, p, margin in rows
                if ("clean", index, "clean") not in job.done
            ],
        )
        predictions.append(predicted.cpu())
        embeddings.append(points.float().cpu().numpy())
    save_arrays(
        job.folder,
        "embeddings",
        {
            "index": np.arange(len(dataset)),
            "embeddings": np.concatenate(embeddings),
            "labels": dataset.labels,
        },
    )
    return torch.cat(predictions)


def _certify(job: _Job, batch: Batch, left: Tensor, text: str) -> list[dict[str, Any]]:
    del left  # a certificate states its own prediction
    specification = certify.parse_method(text)
    claim = certify.certificate(
        specification,
        job.classifier,
        batch.images,
        norm=job.audit.norm,
        seeds=_seeds(job, batch, text),
        prepared=job.prepared[text],
    )
    columns = (batch.index, batch.labels, claim.predicted, claim.radius, claim.rival)
    return [
        {
            "kind": "certificate",
            "index": index,
            "method": text,
            "config": job.config,
            "label": label,
            "predicted": predicted,
            "norm": job.audit.norm,
            "guarantee": claim.guarantee,
            "subject": claim.subject,
            "radius": radius,
            "rival": rival,
        }
        for index, label, predicted, radius, rival in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


def _attack(job: _Job, batch: Batch, left: Tensor, text: str) -> list[dict[str, Any]]:
    specification = attacks.parse_attack(text)
    options: dict[str, Any] = dict(specification.options)
    finding = attacks.attacked_radius(
        specification.name,
        misclassify(job.classifier, left),
        batch.images,
        norm=job.audit.norm,
        eps_grid=job.audit.eps,
        seeds=_seeds(job, batch, text),
        batch_size=job.audit.batch_size,
        **options,
    )
    _keep_triples(job.folder, batch, finding)
    columns = (batch.index, batch.labels, left, finding.radius, finding.gradients)
    return [
        {
            "kind": "attack",
            "index": index,
            "method": text,
            "config": job.config,
            "label": label,
            "predicted": predicted,
            "norm": job.audit.norm,
            "eps": list(job.audit.eps),
            "radius": radius,
            "gradients": gradients,
            "subject": "model",
        }
        for index, label, predicted, radius, gradients in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


def _keep_triples(folder: Path, batch: Batch, finding: attacks.Finding) -> None:
    """Keep the nearest and the most robust of the rightly classified images found so far."""
    rows = torch.nonzero(torch.isfinite(finding.radius) & (finding.radius > 0))[:, 0].cpu()
    new = {
        "index": batch.index[rows].numpy(),
        "clean": batch.images.cpu()[rows].numpy(),
        "attacked": finding.adversarials.detach().cpu()[rows].float().numpy(),
        "radius": finding.radius.cpu()[rows].numpy(),
    }
    kept = load_arrays(folder, "triples")
    merged = {key: np.concatenate([kept[key], new[key]]) if kept else new[key] for key in new}
    order = np.lexsort((merged["radius"], merged["index"]))
    _, first = np.unique(merged["index"][order], return_index=True)
    nearest = order[first]  # the smallest radius of every image
    nearest = nearest[np.argsort(merged["radius"][nearest], kind="stable")]
    if len(nearest) > 2 * TRIPLES:
        nearest = np.concatenate([nearest[:TRIPLES], nearest[-TRIPLES:]])
    save_arrays(folder, "triples", {key: value[nearest] for key, value in merged.items()})


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
