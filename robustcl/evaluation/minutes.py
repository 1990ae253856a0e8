"""Audit a model in the minutes that one has: measure images in order, and stop in time.

Images come in one random order that the seed fixes, and every rate is over the first images on
which its method has ended. Images that are begun together are counted where they end within the
time of their method; what ends later is kept, and not counted. This is unbiased: whether the first
k groups of images end in time and the next does not is the same for every order of these k, so that
given k each of them stands at the first place equally often, and the mean rate of those that are
counted is that of a first group that ends in time, which a first group always does. Counting what
ends late would be biased, as images that withstand an attack take longer.
"""

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
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode, exact_copy
from robustcl.core.numbers import time_text
from robustcl.core.terminal import line_of
from robustcl.data.dataset import Dataset
from robustcl.evaluation.call_times import in_layout
from robustcl.evaluation.check_model import check_model
from robustcl.evaluation.clean_records import record_measure
from robustcl.evaluation.job import EvaluationJob
from robustcl.evaluation.manifest import NOWHERE, Origin, run_manifest
from robustcl.evaluation.measuring import check_audit
from robustcl.evaluation.minutes_plan import MinutesPlan
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
class Ended:
    """Say how far a run within minutes has come.

    Args:
        prefixes: By method, the first images on which it has ended in time.
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
    audit, calls = plan.audit, plan.calls
    manifest = run_manifest(classifier, dataset, audit, origin, str(device))
    home = classifier.encoder.mean.device
    with run_session(folder), eval_mode(classifier):
        try:
            classifier.to(device)
            with in_layout(classifier, calls.layout):
                prepared = certify.prepare_all(audit.methods, classifier, norm=audit.norm)
                labels = dataset.labels.tolist()
                begun = start_run(folder, manifest, resume=resume, mixed=mixed, labels=labels)
                manifest = read_manifest(folder) | {k: manifest[k] for k in ("versions", "device")}
                job = EvaluationJob(
                    classifier, exact_copy(classifier), audit, folder, manifest, device, prepared,
                    batch_size=min(calls.batch, len(dataset)), session=begun.session,
                    noise_batch=calls.batch,
                )  # fmt: skip
                if _LOOKED * plan.passes[1] <= _LOOK * seconds:
                    check_model(classifier, dataset, audit, folder, device=device)
                work = _Work(job, dataset, recorded(folder, manifest, audit.measures, chunk=1))
                try:
                    with _bar(seconds, begun_at, visible=progress) as say:
                        _measure(work, _Clock(begun_at, seconds, plan), say)
                finally:  # a run that is interrupted counts what had ended
                    ends = {text: count for text, count in work.counted.items() if text != "clean"}
                    update_manifest(folder, {"prefixes": ends, "layout": calls.layout})
        finally:
            classifier.to(home)
    note_sessions(folder, {begun.session: work.made}, begun.session)
    finish_run(
        folder,
        lambda: work.counted["clean"] == len(dataset),
        seconds=time.monotonic() - started,
        before=False,
        extra={"batch_size_used": job.batch_size},
    )
    return Ended(work.counted, time.monotonic() - begun_at)


class _Clock:
    """Say until when the groups of a method count, and how many images are a group.

    Args:
        begun_at: When the command began.
        seconds: Of the whole run.
        plan: Shares and costs.
    """

    def __init__(self, begun_at: float, seconds: float, plan: MinutesPlan) -> None:
        self._plan, self._seconds = plan, seconds
        report = min(_REPORT, _REPORTED * seconds)
        self._end = begun_at + seconds - report
        self._last = begun_at + (1.0 + _SLACK) * seconds - 2 * report
        self._slower: dict[str, float] = {}  # than was thought
        self._seen: dict[str, float] = {}  # of an image, where nothing was thought
        self._groups: dict[str, int] = {}  # of one size, as counting without bias wants it

    def group(self, text: str) -> int:
        """Count the images that are begun together.

        Args:
            text: The method.

        Returns:
            As many as take a small part of the time at most, 1 or more.
        """
        batch, most = self._plan.calls.batch, _PART * self._seconds
        if not self._worst(text, 1):
            return 1  # nothing is known of it yet
        if text not in self._groups:
            fits = (n for n in range(batch, 1, -1) if self._worst(text, n) <= most)
            self._groups[text] = next(fits, 1)
        return self._groups[text]

    def _worst(self, text: str, images: int) -> float:
        # The most seconds that a group can take; 0 where nothing is known.
        thought = self._plan.costs[text].of(images, self._plan.calls)
        return (thought or images * self._seen.get(text, 0.0)) * self._slower.get(text, 1.0)

    def until(self, text: str, left: dict[str, int]) -> float:
        """Say until when groups of a method count, were the methods after it to take their time.

        Args:
            text: The method.
            left: By method, in order, the images that it has not seen; this one first.

        Returns:
            When, by `time.monotonic`. The method has its share of the time that is left, and what
            later ones cannot use; and time for one group, where the run may still take it.
        """
        now, shares = time.monotonic(), self._plan.shares
        rest = max(self._end - now, 0.0)
        of_all = sum(shares[name] for name in left)
        wanted = sum(
            min(rest * shares[name] / of_all, self._needs(name, count))
            for name, count in left.items()
            if name != text
        )
        worst = self._worst(text, self.group(text))
        if not rest or now + worst > self._last:
            return now
        return max(min(now + rest - wanted, self._last - worst), now + worst)

    def _needs(self, text: str, images: int) -> float:
        group = self.group(text)
        each = self._worst(text, group) / group
        return each * images if each or not images else float("inf")

    def has_room(self, text: str, images: int) -> bool:
        """Say whether a group can end before the run has to.

        Args:
            text: The method.
            images: Of the group.

        Returns:
            Whether, as far as is known.
        """
        return time.monotonic() + self._worst(text, images) <= self._last

    def note(self, text: str, images: int, seconds: float) -> None:
        """Take note of what a group took, where it is more than was thought.

        Args:
            text: The method.
            images: Of the group.
            seconds: Of the group.
        """
        thought = self._plan.costs[text].of(images, self._plan.calls)
        if thought:
            self._slower[text] = max(self._slower.get(text, 1.0), seconds / thought)
        else:
            self._seen[text] = max(self._seen.get(text, 0.0), seconds / images)


class _Work:
    # What is at work: records so far, by image, what is on the disk, and what counts.

    def __init__(self, job: EvaluationJob, dataset: Dataset, kept: Recorded) -> None:
        self.job, self.dataset, self.kept = job, dataset, kept
        self.records: dict[int, list[dict[str, Any]]] = {
            index: list(kept.known(np.array([index]))) for index in range(len(dataset))
        }
        self.made = np.zeros(len(dataset), dtype=bool)
        self.counted = {measure[1]: self.done(measure) for measure in job.audit.measures}

    def done(self, measure: Measure) -> int:
        lacking = np.flatnonzero(~self.kept.done[measure])
        return int(lacking[0]) if len(lacking) else len(self.dataset)

    def group(self, measure: Measure, rows: np.ndarray) -> None:
        # Measure images together, and write their records.
        size = self.job.batch_size
        before = [record for row in rows.tolist() for record in self.records[row]]
        batch = self.dataset.batch(rows)
        made = retry_smaller(
            lambda size: record_measure(
                replace(self.job, batch_size=size), batch, before, measure, self.kept
            ),
            min(size, len(rows)) if measure[0] == "attack" else size,
        )
        for record in made:
            self.records[record["index"]].append(record)
        self.kept.done[measure][rows] = True
        self.made[rows] = True


def _measure(work: _Work, clock: _Clock, say: Callable[[str], object]) -> None:
    # All methods in turn; then, in what is left of the time, those that are not through.
    clean, *others = work.job.audit.measures
    images = len(work.dataset)
    while (start := work.done(clean)) < images:
        say(clean[1])
        work.group(clean, np.arange(start, min(start + work.job.batch_size, images)))
    work.counted[clean[1]] = images
    for _ in range(2):
        for place, measure in enumerate(others):
            left = {other[1]: images - work.done(other) for other in others[place:]}
            _through(work, measure, clock, left, say)


def _through(
    work: _Work, measure: Measure, clock: _Clock, left: dict[str, int], say: Callable[[str], object]
) -> None:
    text, until = measure[1], clock.until(measure[1], left)
    while (start := work.done(measure)) < len(work.dataset):
        rows = np.arange(start, min(start + clock.group(text), len(work.dataset)))
        begun = time.monotonic()
        if begun >= until or not clock.has_room(text, len(rows)):
            return
        say(text)
        work.group(measure, rows)
        ended = time.monotonic()
        clock.note(text, len(rows), ended - begun)
        if ended > until:
            return
        work.counted[text] = work.done(measure)


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
