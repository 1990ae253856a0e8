"""Audit a model in the minutes that one has: choose what fits, measure in order, stop in time.

Images come in one random order that the seed fixes. What is measured, and with how many samples and
steps, is chosen from the time of passes through the network and never from outcomes: images that an
attack beats are cheap, so a choice that looked at them would be biased. A method goes through the
images in their order, and whether it takes the next ones is decided before they are begun, from the
clock and from the most that they can cost. Every rate is over the first images on which its method
has ended.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from robustcl import certify
from robustcl.core.batching import retry_smaller
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError, UnsupportedError
from robustcl.core.modules import eval_mode, exact_copy
from robustcl.core.numbers import time_text
from robustcl.core.terminal import line_of
from robustcl.data.dataset import Dataset
from robustcl.evaluation.check_model import check_model
from robustcl.evaluation.clean_records import record_measure
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.expected_time import AUTOATTACK, PassSeconds, pass_times, passes_of
from robustcl.evaluation.job import EvaluationJob
from robustcl.evaluation.manifest import NOWHERE, Origin, run_manifest
from robustcl.evaluation.measuring import check_audit
from robustcl.evaluation.recorded import Recorded, recorded
from robustcl.records.lines import Measure
from robustcl.records.reading import read_manifest
from robustcl.records.writing import (
    finish_run,
    note_sessions,
    run_session,
    start_run,
    update_manifest,
)

_SLACK = 0.1  # of the minutes, by which a run may end late
_BATCH = 32  # images of a call, at most
# Shares of the time for clean images, certificates and attacks.
_CLEAN, _CERTIFIED, _ATTACKED = 0.1, 0.38, 0.52
_ENOUGH = 100  # images for which samples and steps are given up first
_FEW_CLEAN, _MOST_CLEAN = 50, 10_000
_CLEAN_PASSES = 2  # for the class, and for the embedding that is kept
_SAMPLES = (10_000, 5_000, 2_000, 1_000, 500, 200, 100)
_STEPS = (100, 40, 20, 10)
_QUICK = 0.2  # seconds of an image within which deterministic certificates are computed
_TRIED = 3e-3  # seconds of a pass beyond which they are not tried
MINUTES_EPS = {"l2": 0.25, "linf": 2 / 255, "l1": 3.0}
_CONFIRMING = 12  # gradients as long as which points are confirmed in float64, mostly
_PART = 0.06  # of the time, that images which are begun together may take
# Gradients that checks of the model take; where they are a larger share, they are left out.
_LOOKED, _LOOK = 32 * 40, 0.05
_REPORT, _REPORTED = 4.0, 0.08  # seconds that the report takes, and their share at most


_MOST_MINUTES = 60.0 * 24 * 30


def check_minutes(minutes: float | None) -> float:
    """Refuse what is no number of minutes.

    Args:
        minutes: The number.

    Returns:
        The same.

    Raises:
        InputError: When it is not positive, or more than a month.
    """
    if minutes is None or not 0.0 < minutes <= _MOST_MINUTES:
        raise InputError(f"--minutes {minutes} is out of range; give 1 or more")
    return minutes


@dataclass(frozen=True)
class MinutesPlan:
    """State what is measured in the minutes, and what it costs at most.

    Args:
        audit: Methods and attacks.
        images: The first images of which the clean class is asked.
        most: By method, the most seconds that one image can take.
        shares: By method, its share of the time.
        passes: Seconds of a forward pass and of a gradient, per image.
    """

    audit: EvaluationConfig
    images: int
    most: dict[str, float]
    shares: dict[str, float]
    passes: PassSeconds


def choose_plan(
    classifier: Classifier,
    audit: EvaluationConfig,
    *,
    seconds: float,
    device: str | torch.device = "cpu",
    methods: bool = True,
    attacks: bool = True,
) -> MinutesPlan:
    """Choose methods, images, samples and steps from a short measurement of time.

    PassSeconds through the network are timed on noise, and one deterministic certificate on a gray
    image: no image of the data is looked at.

    Args:
        classifier: The model, on the device and in eval mode.
        audit: Norm, seed, and what the user has asked for.
        seconds: Of the whole run.
        device: Where to compute.
        methods: Whether certificates are to be chosen; otherwise those of the audit stand.
        attacks: Whether attacks are to be chosen, likewise.

    Returns:
        The plan.

    Raises:
        InputError: When not even a few images fit in the time.
    """
    batch = min(_BATCH, audit.batch_size)
    forward, gradient = retry_smaller(lambda size: pass_times(classifier, size, device), batch)
    views = classifier.evaluations
    forward, gradient = views * forward, views * gradient
    clean = _CLEAN_PASSES * forward
    images = min(_MOST_CLEAN, max(_FEW_CLEAN, int(_CLEAN * seconds / clean)))
    if clean * _FEW_CLEAN > 0.5 * seconds:
        raise InputError(
            f"--minutes {seconds / 60:g} is too short: {_FEW_CLEAN} images alone take "
            f"{time_text(forward * _FEW_CLEAN)}; give at least {math.ceil(forward * 100 / 30)}"
        )
    most: dict[str, float] = {}
    if methods:
        text, cost = _certificate(classifier, audit, _CERTIFIED * seconds, forward, device)
        audit, most[text] = replace(audit, methods=(text,)), cost
    if attacks:
        text, cost, screened = _attack(audit, _ATTACKED * seconds, forward, gradient, seconds)
        most[text] = cost
        audit = replace(audit, attacks=(text,), screened=screened, one_budget=not screened)
    for kind, text in audit.measures[1:]:
        if text not in most:
            most[text] = _most(audit, kind, text, forward, gradient, classifier, device)
    count = {"certificate": 0, "attack": 0}
    for kind, _ in audit.measures[1:]:
        count[kind] += 1
    parts = {"certificate": _CERTIFIED, "attack": _ATTACKED}
    whole = _CLEAN + sum(share for kind, share in parts.items() if count[kind])
    shares = {text: parts[kind] / count[kind] / whole for kind, text in audit.measures[1:]}
    return MinutesPlan(audit, images, most, shares, (forward, gradient))


def _certificate(
    classifier: Classifier,
    audit: EvaluationConfig,
    seconds: float,
    forward: float,
    device: str | torch.device,
) -> tuple[str, float]:
    # The deterministic certificate where it is quick, else votes on as many samples as there is
    # time for.
    if forward <= _TRIED and audit.norm != "l1":
        cost = _time_of_sound(classifier, audit, device)
        if cost <= _QUICK:
            return "sound", cost
    n = next((n for n in _SAMPLES if n * forward * _ENOUGH <= seconds), _SAMPLES[-1])
    batches = 1 + math.ceil(n / _BATCH)  # those of an image are filled up
    return f"smoothing:sigma=.25,n={n},n_select={_BATCH}", batches * _BATCH * forward


def _time_of_sound(
    classifier: Classifier, audit: EvaluationConfig, device: str | torch.device
) -> float:
    gray = torch.full((1, *classifier.image_shape), 0.5, device=device)
    method = certify.parse_method("sound")
    try:
        prepared = certify.prepare(method, classifier, norm=audit.norm)
        quick = certify.parse_method("product")
        certify.certificate(quick, classifier, gray, norm=audit.norm, prepared=prepared)
        begun = time.monotonic()
        certify.certificate(method, classifier, gray, norm=audit.norm, prepared=prepared)
    except UnsupportedError:
        return math.inf
    return time.monotonic() - begun


def _attack(
    audit: EvaluationConfig, seconds: float, forward: float, gradient: float, whole: float
) -> tuple[str, float, bool]:
    # The reference where one image that withstands it is no large part of the time; else PGD.
    reference = AUTOATTACK[0] * forward + AUTOATTACK[1] * gradient
    if audit.norm != "l1" and reference <= 0.3 * whole and not audit.views:
        return "autoattack", reference, True
    steps = next((n for n in _STEPS if n * gradient * _ENOUGH <= seconds), _STEPS[-1])
    return f"pgd:steps={steps},restarts=1", (steps + _CONFIRMING) * gradient, False


def _most(
    audit: EvaluationConfig,
    kind: str,
    text: str,
    forward: float,
    gradient: float,
    classifier: Classifier,
    device: str | torch.device,
) -> float:
    passes = passes_of(audit, 1, kind, text)
    if passes is not None:
        return passes[0] * forward + passes[1] * gradient
    if kind == "attack":
        return 0.0  # not known; the clock alone decides
    gray = torch.full((1, *classifier.image_shape), 0.5, device=device)
    method = certify.parse_method(text)
    prepared = certify.prepare(method, classifier, norm=audit.norm)
    begun = time.monotonic()
    certify.certificate(method, classifier, gray, norm=audit.norm, seeds=[0], prepared=prepared)
    return time.monotonic() - begun


@dataclass(frozen=True)
class Ended:
    """Say how far a run within minutes has come.

    Args:
        prefixes: By method, the first images on which it has ended.
        seconds: Spent in this session.
    """

    prefixes: dict[str, int]
    seconds: float


def evaluate_within(
    classifier: Classifier,
    dataset: Dataset,
    plan: MinutesPlan,
    folder: Path,
    *,
    seconds: float,
    begun_at: float,
    origin: Origin = NOWHERE,
    device: str | torch.device = "cpu",
    resume: bool = False,
    mixed: bool = False,
    progress: bool = True,
) -> Ended:
    """Measure as many images as fit, and write a run folder that is complete for them.

    Args:
        classifier: The model; it is evaluated in eval mode and left as it was.
        dataset: The images of the plan, in the order of the seed.
        plan: What is measured.
        folder: The run folder.
        seconds: Of the whole run, from `begun_at`.
        begun_at: When the command began, as `time.monotonic` gives it.
        origin: Checkpoint and command, for the manifest.
        device: Where to compute.
        resume: Whether to go on with a run in the folder, with further minutes.
        mixed: As in `evaluate`.
        progress: Whether to show a bar on stderr.

    Returns:
        How far it has come; whole images only.

    Raises:
        InputError: When images or labels do not fit the classifier, or it is not usable.
        RunError: When the folder is not usable, or another session is at work there.
    """
    check_audit(classifier, dataset)
    started = time.monotonic()
    audit = plan.audit
    manifest = run_manifest(classifier, dataset, audit, origin, str(device))
    home = classifier.encoder.mean.device
    with run_session(folder), eval_mode(classifier):
        try:
            classifier.to(device)
            prepared = certify.prepare_all(audit.methods, classifier, norm=audit.norm)
            labels = dataset.labels.tolist()
            begun = start_run(folder, manifest, resume=resume, mixed=mixed, labels=labels)
            manifest = read_manifest(folder) | {k: manifest[k] for k in ("versions", "device")}
            job = EvaluationJob(
                classifier, exact_copy(classifier), audit, folder, manifest, device, prepared,
                batch_size=min(_BATCH, audit.batch_size, len(dataset)), session=begun.session,
                noise_batch=_BATCH,
            )  # fmt: skip
            if _LOOKED * plan.passes[1] <= _LOOK * seconds:
                check_model(classifier, dataset, audit, folder, device=device)
            clock = _Clock(begun_at, seconds, plan)
            work = _Work(job, dataset, recorded(folder, manifest, audit.measures, chunk=1))
            with _bar(seconds, begun_at, visible=progress) as say:
                for measure in audit.measures:
                    _through(work, measure, clock, say)
        finally:
            classifier.to(home)
    prefixes = {text: work.prefix(kind, text) for kind, text in audit.measures}
    update_manifest(folder, {"prefixes": {k: v for k, v in prefixes.items() if k != "clean"}})
    note_sessions(folder, {begun.session: work.made}, begun.session)
    finish_run(
        folder,
        lambda: prefixes["clean"] == len(dataset),
        seconds=time.monotonic() - started,
        before=False,
        extra={"batch_size_used": job.batch_size},
    )
    return Ended(prefixes, time.monotonic() - begun_at)


class _Clock:
    """Say whether there is time for further images.

    Args:
        begun_at: When the command began.
        seconds: Of the whole run.
        plan: Shares and costs.
    """

    def __init__(self, begun_at: float, seconds: float, plan: MinutesPlan) -> None:
        self._begun, self._seconds, self._plan = begun_at, seconds, plan
        self._left: dict[str, float] = {}
        self._most = dict(plan.most)
        self._report = min(_REPORT, _REPORTED * seconds)
        self._order = [text for _, text in plan.audit.measures[1:]]

    def begin(self, text: str) -> None:
        """Give a method its share of the time that is left.

        Args:
            text: The method.
        """
        now = time.monotonic()
        end = self._begun + self._seconds - self._report
        later = self._order[self._order.index(text) :] if text in self._order else []
        whole = sum(self._plan.shares[name] for name in later) or 1.0
        share = self._plan.shares.get(text, 1.0) / whole
        self._left[text] = now + max(end - now, 0.0) * share

    def room(self, text: str) -> int:
        """Count the images that may be begun now.

        Args:
            text: The method.

        Returns:
            0 where its time is over, or where one more image may take longer than the run may.
        """
        if text == "clean":
            return _BATCH
        now, most = time.monotonic(), max(self._most[text], 1e-6)
        last = self._begun + (1.0 + _SLACK) * self._seconds - 2 * self._report
        if now >= self._left[text] or now + most > last:
            return 0
        # What the reference costs is mostly far below the most that it can: only the end bounds it.
        rare = self._plan.audit.screened and text in self._plan.audit.attacks
        end = last - now if rare else min(self._left[text] - now, _PART * self._seconds)
        return max(1, min(_BATCH, int(end / most), int((last - now) / most)))

    def note(self, text: str, seconds: float) -> None:
        """Take note of what an image cost, where it is more than was thought.

        Args:
            text: The method.
            seconds: Of one image, on average over those that were begun together.
        """
        self._most[text] = max(self._most.get(text, 0.0), seconds)


@dataclass
class _Work:
    # What is at work: records so far, by image, and what is on the disk.
    job: EvaluationJob
    dataset: Dataset
    kept: Recorded

    def __post_init__(self) -> None:
        self.records: dict[int, list[dict[str, Any]]] = {
            index: list(self.kept.known(np.array([index]))) for index in range(len(self.dataset))
        }
        self.made = np.zeros(len(self.dataset), dtype=bool)

    def prefix(self, kind: str, text: str) -> int:
        lacking = np.flatnonzero(~self.kept.done[kind, text])
        return int(lacking[0]) if len(lacking) else len(self.dataset)


def _through(work: _Work, measure: Measure, clock: _Clock, say: Callable[[str], object]) -> None:
    kind, text = measure
    clock.begin(text)
    while (start := work.prefix(kind, text)) < len(work.dataset):
        count = clock.room(text)
        if not count:
            return
        say(text)
        rows = np.arange(start, min(start + count, len(work.dataset)))
        job = replace(work.job, batch_size=min(work.job.batch_size, len(rows))) if (
            kind == "attack") else work.job  # fmt: skip
        started = time.monotonic()
        before = [record for row in rows.tolist() for record in work.records[row]]
        made = retry_smaller(
            lambda size, job=job, rows=rows, before=before: record_measure(
                replace(job, batch_size=size), work.dataset.batch(rows), before, measure, work.kept
            ),
            job.batch_size,
        )
        clock.note(text, (time.monotonic() - started) / len(rows))
        for record in made:
            work.records[record["index"]].append(record)
        work.kept.done[measure][rows] = True
        work.made[rows] = True


@contextmanager
def _bar(seconds: float, begun_at: float, *, visible: bool) -> Iterator[Callable[[str], object]]:
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[left]}", markup=False),
        console=Console(file=sys.stderr),
        disable=not visible,
    ) as bar:
        task = bar.add_task("images", total=seconds, left="")

        def say(text: str) -> None:
            spent = time.monotonic() - begun_at
            left = time_text(max(seconds - spent, 0.0))
            bar.update(task, description=line_of(text), completed=spent, left=f"{left} left")

        yield say
