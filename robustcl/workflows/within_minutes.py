"""Audit a model in the minutes that the user has."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.last_handler import stop_code
from robustcl.core.modules import eval_mode
from robustcl.core.numbers import time_text
from robustcl.core.started import started
from robustcl.core.terminal import say
from robustcl.declarations.heads import HEAD_ROWS
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.manifest import Origin
from robustcl.evaluation.minutes import Ended, evaluate_within
from robustcl.evaluation.minutes_plan import MinutesPlan, choose_plan
from robustcl.models.checkpoint import Loaded
from robustcl.options.run import RunOptions
from robustcl.records.kinds import CERTIFIED_BALL
from robustcl.records.reading import read_manifest
from robustcl.workflows.data import check_device, drawn_data, listed_data
from robustcl.workflows.evaluate import known_accuracy


def evaluate_minutes(
    options: RunOptions, audit: EvaluationConfig, classifier: Classifier, loaded: Loaded
) -> int | None:
    """Plan, say the plan, and measure what fits.

    Args:
        options: The options.
        audit: What the user has asked for.
        classifier: The model.
        loaded: Its checkpoint.

    Returns:
        None where records were written and are to be reported, else an exit code.

    Raises:
        InputError: When the data has no labels but a gate is about an accuracy.
    """
    minutes, names = options.minutes or 0.0, classifier.class_names
    check_device(options.device)
    begun = _begun(options)
    listing = listed_data(options, split=options.split, classes=names, transform=loaded.transform)
    available = begun.get("num_examples") or options.limit or len(listing.usable)
    with eval_mode(classifier.to(options.device)):
        plan = choose_plan(
            classifier,
            _same(audit, begun) if begun else audit,
            seconds=60.0 * minutes,
            available=min(available, len(listing.usable)),
            device=options.device,
            methods=options.methods is None and not begun,
            attacks=options.attack is None and not begun,
            layout=begun.get("layout"),
        )
    limit = begun.get("num_examples") or plan.images
    dataset = drawn_data(options, listing, limit=limit, classes=names)
    if options.require and not dataset.labeled:
        raise InputError(
            f"{dataset.name!r} has no labels, so {options.require[0]!r} cannot be judged; leave "
            "--require out, or give labeled data"
        )
    _tell_plan(plan, len(dataset), minutes)
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    try:
        ended = evaluate_within(
            classifier,
            dataset,
            plan,
            options.out,
            seconds=60.0 * minutes,
            begun_at=started(),
            origin=Origin(loaded.hash, command, known_accuracy(options, loaded)),
            device=options.device,
            resume=options.resume,
            mixed=options.mixed_versions,
            progress=not options.quiet,
        )
    except KeyboardInterrupt as stop:
        again = command if options.resume else f"{command} --resume"
        say(f"interrupted; the records in {options.out} are whole. Go on by: {again}")
        return stop_code(stop)
    _tell_end(ended, len(dataset), minutes, how="" if options.head in HEAD_ROWS else " (--resume)")
    return None


def _begun(options: RunOptions) -> Mapping[str, Any]:
    # The manifest of the run that is gone on with; empty where there is none.
    there = options.resume and (options.out / "manifest.json").is_file()
    return read_manifest(options.out) if there else {}


def _same(audit: EvaluationConfig, manifest: Mapping[str, Any]) -> EvaluationConfig:
    # A run that is gone on with keeps its methods, samples and steps.
    config = manifest.get("config", {})
    return replace(
        audit,
        methods=tuple(config.get("methods") or ()),
        attacks=tuple(config.get("attacks") or ()),
        eps=tuple(config.get("eps") or ()),
        screened=bool(config.get("screened", False)),
        one_budget=bool(config.get("one_budget", False)),
        batch_size=int(config.get("batch_size") or audit.batch_size),
    )


def _tell_plan(plan: MinutesPlan, images: int, minutes: float) -> None:
    forward, gradient = plan.passes
    methods = ", ".join((*plan.audit.methods, *plan.audit.attacks)) or "no certificate, no attack"
    laid_out = ", weights in channels-last order" if plan.calls.layout == "channels_last" else ""
    say(
        f"plan for {_minutes_text(minutes)}: {images:,} images clean, and as many as fit by "
        f"{methods} (a pass takes {1000 * forward:.3g} ms per image, a gradient "
        f"{1000 * gradient:.3g} ms{laid_out})"
    )


def _tell_end(ended: Ended, images: int, minutes: float, *, how: str) -> None:
    counts = {t: c for t, c in ended.prefixes.items() if t not in ("clean", CERTIFIED_BALL)}
    parts = [f"{text} on {count:,}" for text, count in counts.items()]
    say(
        f"ended after {time_text(ended.seconds)}: {ended.prefixes['clean']:,} images clean"
        + "".join(f", {part}" for part in parts)
    )
    for text, count in counts.items():
        if not count:
            say(f"no time was left for {text}, which says nothing here; give more minutes")
    more = [
        f"about {min(count, images - count):,} images by {text}"
        for text, count in counts.items()
        if 0 < count < images
    ]
    if more:
        say(
            f"another {_minutes_text(minutes)}{how} would add {', '.join(more)}; intervals "
            "shrink with the root of their number"
        )


def _minutes_text(minutes: float) -> str:
    return f"{minutes:g} minute{'' if minutes == 1 else 's'}"
