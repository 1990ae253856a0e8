"""Audit a classifier: clean accuracy, certificates and attacks, one record per image and method."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robustcl import certify
from robustcl.core.abstention import warn_abstained
from robustcl.core.batching import retry_smaller
from robustcl.core.checks import check_network
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode, exact_copy
from robustcl.core.numbers import time_text
from robustcl.core.terminal import line_of
from robustcl.data.class_names import check_classes
from robustcl.data.dataset import Dataset
from robustcl.evaluation.check_model import check_model
from robustcl.evaluation.clean_records import measure_batch
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.expected_time import expected_seconds
from robustcl.evaluation.job import EvaluationJob
from robustcl.evaluation.manifest import NOWHERE, Origin, run_manifest
from robustcl.evaluation.missing_arrays import rebuild_arrays
from robustcl.evaluation.recorded import recorded
from robustcl.records.ranks import own_chunks, rank, rank_count
from robustcl.records.reading import read_manifest
from robustcl.records.writing import finish_run, note_sessions, run_session, start_run


def evaluate(
    classifier: Classifier,
    dataset: Dataset,
    audit: EvaluationConfig,
    folder: Path,
    *,
    origin: Origin = NOWHERE,
    device: str | torch.device = "cpu",
    resume: bool = False,
    mixed: bool = False,
    progress: bool = True,
    tell: Callable[[str], object] | None = None,
) -> bool:
    """Measure every image by every method and write a run folder.

    An interrupted run leaves whole records and goes on with `resume`; it ends with the same
    records as a run in one go, since every example has its own seed and the batches are the same.
    The processes that torchrun starts share the batches and know nothing else of each other: a
    lost one costs the batch it was at, and any number of processes may go on. Certificates and
    attacks are asked about the *predicted* class; labels enter the summary only.

    Args:
        classifier: The model; it is evaluated in eval mode and left as it was.
        dataset: The images.
        audit: What is measured.
        folder: The run folder.
        origin: Checkpoint and command, for the manifest.
        device: Where to compute.
        resume: Whether to go on with a run in the folder; what is damaged there is set aside and
            measured again.
        mixed: Whether to go on although robustcl or torch is another version (see `sessions`).
        progress: Whether to show a bar on stderr.
        tell: Is told beforehand about how long the run takes; None for nobody, which spares the
            measurement.

    Returns:
        Whether the run is complete and is this process's to report: of several, the last one's.

    Raises:
        InputError: When images or labels do not fit the classifier, or it is not usable.
        RunError: When the folder is not usable, or another session is at work there.
    """
    check_audit(classifier, dataset)
    with run_session(folder):
        return _evaluated(
            classifier, dataset, audit, folder, origin=origin, device=device, resume=resume,
            mixed=mixed, progress=progress, tell=tell,
        )  # fmt: skip


def _evaluated(
    classifier: Classifier,
    dataset: Dataset,
    audit: EvaluationConfig,
    folder: Path,
    *,
    origin: Origin,
    device: str | torch.device,
    resume: bool,
    mixed: bool,
    progress: bool,
    tell: Callable[[str], object] | None,
) -> bool:
    started = time.monotonic()
    manifest = run_manifest(classifier, dataset, audit, origin, str(device))
    home = classifier.encoder.mean.device
    with eval_mode(classifier):
        try:
            classifier.to(device)
            begun_at = time.monotonic()
            prepared = certify.prepare_all(audit.methods, classifier, norm=audit.norm)
            if tell is not None and not rank() and any(p is not None for p in prepared.values()):
                tell(f"the network was read in {time.monotonic() - begun_at:.1f} s")
            labels = dataset.labels.tolist()
            begun = start_run(folder, manifest, resume=resume, mixed=mixed, labels=labels)
            manifest = read_manifest(folder) | {
                key: manifest[key] for key in ("versions", "device")
            }
            if not rank():
                check_model(classifier, dataset, audit, folder, device=device)
            exact = exact_copy(classifier)
            job = EvaluationJob(
                classifier, exact, audit, folder, manifest, device, prepared, session=begun.session
            )
            if tell is not None and not resume and not rank():
                _tell_time(replace(job, batch_size=audit.batch_size), dataset, tell)
            made: dict[int, np.ndarray] = {}
            used = retry_smaller(
                lambda size: _measure(
                    replace(job, batch_size=size), dataset, made, progress=progress
                ),
                min(audit.batch_size, len(dataset)),  # a small data set is not filled up
            )
            rebuild_arrays(replace(job, batch_size=used), dataset, begun.lost)
        finally:
            classifier.to(home)
    note_sessions(folder, made, begun.session)
    # A process that is alone and went through all chunks has every record; others may lack theirs.
    return finish_run(
        folder,
        lambda: rank_count() == 1 or recorded(folder, manifest, audit.measures, chunk=1).complete,
        seconds=time.monotonic() - started,
        before=begun.complete,
        extra={"batch_size_used": used},
    )


def _tell_time(job: EvaluationJob, dataset: Dataset, tell: Callable[[str], object]) -> None:
    seconds, unknown = retry_smaller(
        lambda size: expected_seconds(replace(job, batch_size=size), dataset), job.batch_size
    )
    shared = f" on each of {rank_count()} processes" if rank_count() > 1 else ""
    besides = f", and {', '.join(unknown)}, whose time is not known" if unknown else ""
    tell(f"expected time: roughly {time_text(seconds / rank_count())}{shared}{besides}")


def check_audit(classifier: Classifier, dataset: Dataset) -> None:
    """Refuse images or labels that do not fit a classifier.

    Args:
        classifier: The model.
        dataset: The images.

    Raises:
        InputError: When it is not usable, or takes images of another shape, or has other classes.
    """
    check_network(classifier, what="classifier")
    if dataset.image_shape != classifier.image_shape:
        raise InputError(
            f"{dataset.name!r} has images of shape {dataset.image_shape} (C, H, W) but the encoder "
            f"takes {classifier.image_shape}; add ',size={classifier.image_shape[1]}' to the data, "
            "or use other data"
        )
    check_classes(dataset, classifier.class_names)


def _measure(
    job: EvaluationJob, dataset: Dataset, made: dict[int, np.ndarray], *, progress: bool
) -> int:
    # Called again with a smaller batch when memory runs out: what is on the disk is kept. By
    # session, `made` is told which images have records.
    count, chunk = len(dataset), min(job.audit.batch_size, len(dataset))
    kept = recorded(job.folder, job.manifest, job.audit.measures, chunk=chunk)
    made.update(kept.sessions)
    own = made.setdefault(job.session, np.zeros(count, dtype=bool))
    abstained: list[int] = []
    try:
        with _bar(progress) as bar:
            chunks = list(own_chunks(count, chunk))
            shown = bar.add_task("images", total=sum(map(len, chunks)))
            for rows in chunks:
                if not kept.whole(rows):
                    own[kept.lacking(rows)] = True
                    for start in range(0, len(rows), job.batch_size):
                        batch = dataset.batch(rows[start : start + job.batch_size])
                        abstained += measure_batch(
                            job,
                            batch,
                            kept,
                            say=lambda text: bar.update(shown, description=line_of(text)),
                        )
                bar.advance(shown, len(rows))
    finally:
        warn_abstained(abstained, "the model abstains there, which counts as wrong")
    return job.batch_size


def _bar(visible: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        disable=not visible,
    )
