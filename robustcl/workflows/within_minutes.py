"""Audit a model in the minutes that the user has."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.last_handler import stop_code
from robustcl.core.modules import eval_mode
from robustcl.core.numbers import time_text
from robustcl.core.started import started
from robustcl.core.terminal import say
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.manifest import Origin
from robustcl.evaluation.minutes import Ended, MinutesPlan, choose_plan, evaluate_within
from robustcl.models.checkpoint import Loaded
from robustcl.options.run import RunOptions
from robustcl.records.reading import read_manifest
from robustcl.workflows.data import check_device, read_data


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
    seconds = 60.0 * (options.minutes or 0.0)
    check_device(options.device)
    known = _known(options)
    with eval_mode(classifier.to(options.device)):
        plan = choose_plan(
            classifier,
            audit if known is None else replace(audit, **known),
            seconds=seconds,
            device=options.device,
            methods=options.methods is None and known is None,
            attacks=options.attack is None and known is None,
        )
    limit = _limit(options, plan)
    dataset = read_data(
        replace(options, limit=limit),
        split=options.split,
        classes=classifier.class_names,
        transform=loaded.transform,
    )
    if options.require and not dataset.labeled:
        raise InputError(
            f"{dataset.name!r} has no labels, so {options.require[0]!r} cannot be judged; leave "
            "--require out, or give labeled data"
        )
    _tell_plan(plan, len(dataset), options)
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    try:
        ended = evaluate_within(
            classifier,
            dataset,
            plan,
            options.out,
            seconds=seconds,
            begun_at=started(),
            origin=Origin(loaded.hash, command),
            device=options.device,
            resume=options.resume,
            mixed=options.mixed_versions,
            progress=not options.quiet,
        )
    except KeyboardInterrupt as stop:
        again = command if options.resume else f"{command} --resume"
        say(f"interrupted; the records in {options.out} are whole. Go on by: {again}")
        return stop_code(stop)
    _tell_end(ended, len(dataset), options)
    return None


def _known(options: RunOptions) -> dict[str, object] | None:
    # A run that is gone on with keeps its methods, samples and steps.
    if not options.resume or not (options.out / "manifest.json").is_file():
        return None
    config = read_manifest(options.out).get("config", {})
    return {
        "methods": tuple(config.get("methods") or ()),
        "attacks": tuple(config.get("attacks") or ()),
        "eps": tuple(config.get("eps") or ()),
        "screened": bool(config.get("screened", False)),
        "one_budget": bool(config.get("one_budget", False)),
        "batch_size": int(config.get("batch_size") or options.batch_size),
    }


def _limit(options: RunOptions, plan: MinutesPlan) -> int:
    if options.resume and (options.out / "manifest.json").is_file():
        count = read_manifest(options.out).get("num_examples")
        if isinstance(count, int):
            return count
    return plan.images if options.limit is None else min(options.limit, plan.images)


def _tell_plan(plan: MinutesPlan, images: int, options: RunOptions) -> None:
    forward, gradient = plan.passes
    methods = ", ".join((*plan.audit.methods, *plan.audit.attacks)) or "no certificate, no attack"
    say(
        f"plan for {options.minutes:g} minutes: {images:,} images clean, and as many as fit by "
        f"{methods} (a pass takes {1000 * forward:.3g} ms per image, a gradient "
        f"{1000 * gradient:.3g} ms)"
    )


def _tell_end(ended: Ended, images: int, options: RunOptions) -> None:
    parts = [f"{text} on {count:,}" for text, count in ended.prefixes.items() if text != "clean"]
    say(
        f"ended after {time_text(ended.seconds)}: {ended.prefixes['clean']:,} images clean"
        + "".join(f", {part}" for part in parts)
    )
    open_ends = {t: c for t, c in ended.prefixes.items() if c < images and t != "clean"}
    if open_ends and options.minutes:
        more = ", ".join(f"about {max(c, 1):,} images by {t}" for t, c in open_ends.items())
        say(
            f"another {options.minutes:g} minutes (--resume) would add {more}; intervals shrink "
            "with the root of their number"
        )
