"""Measure a checkpoint, for the commands that end with records."""

import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from robustcl.core.batching import retry_smaller
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.last_handler import stop_code
from robustcl.core.numbers import interval_text, percent
from robustcl.core.output_folder import OutputFolder
from robustcl.core.terminal import answer, emit, say
from robustcl.data import Dataset
from robustcl.evaluation.check_model import chance_warning, first_look
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.manifest import Origin
from robustcl.evaluation.measuring import evaluate
from robustcl.evaluation.plan import plan
from robustcl.models.checkpoint import Loaded, hash_of, own_accuracy
from robustcl.models.heads.fitting import HEAD_ROWS, fit_head
from robustcl.models.reference import (
    Reference,
    compare_logits,
    read_reference,
    stated_reference,
)
from robustcl.models.sources.opening import open_model
from robustcl.models.text_prototypes import (
    has_text,
    read_prototypes,
    text_prototypes,
    with_prototypes,
)
from robustcl.options.shared import EvaluationOptions
from robustcl.records.ranks import own_device, rank, rank_count
from robustcl.workflows.data import old_rule, read_data
from robustcl.workflows.models import (
    Views,
    checked_constant,
    load_and_tell,
    model_request,
    names_file,
    tell_model,
    with_views,
)
from robustcl.workflows.outputs import refuse_inside_data

MOST_FITTED = 5_000  # training images on which a run fits a head


def load_with_head(options: EvaluationOptions) -> tuple[Classifier, Loaded]:
    """Load a checkpoint that has a head.

    Args:
        options: The options.

    Returns:
        The classifier, with the views asked for, and what else is in the checkpoint.

    Raises:
        InputError: When it has no head.
    """
    if options.head not in (None, "native", *HEAD_ROWS):
        raise InputError(
            f"unknown --head {options.head!r}; use native, {', '.join(HEAD_ROWS)}, or leave it out"
        )
    if options.plan is None and not rank():  # others wait until the first has found it usable
        refuse_inside_data(options.out, options.data)
        OutputFolder(options.out).check_start()
    loaded = _opened(options)
    if options.head in HEAD_ROWS:
        loaded = _fitted(options, loaded, options.head)
    if loaded.classifier is None:
        raise InputError(
            f"{str(options.checkpoint)!r} has no head; fit one by: robustcl probe "
            f"{options.checkpoint} --data {options.data} --out CKPT, or add --head linear"
        )
    checked_constant(loaded.encoder, loaded.description)
    if options.reference is not None:
        known = read_reference(options.reference)
        if not isinstance(known, Reference) and not rank():
            say(f"reference: {compare_logits(loaded.classifier, *known)}")
    if options.views is None:
        return loaded.classifier, loaded
    views = Views(options.views, options.count, options.aggregate, options.seed)
    return with_views(loaded.classifier, views, loaded.description, options.data), loaded


def known_accuracy(options: EvaluationOptions, loaded: Loaded) -> Reference | None:
    """Say which accuracy a model is said to have.

    Args:
        options: The options.
        loaded: The model.

    Returns:
        The user's, else that of the model's own file, else None.
    """
    known = None if options.reference is None else read_reference(options.reference)
    return known if isinstance(known, Reference) else stated_reference(loaded.description)


def _fitted(options: EvaluationOptions, loaded: Loaded, kind: str) -> Loaded:
    # The encoder with a head that is fitted now, on images of the training split.
    if options.prototypes is not None:
        raise InputError(f"--head {kind} with --prototypes; give one of the two")
    if options.resume:
        raise InputError(
            f"--resume with --head {kind}: a head that is fitted again may differ by rounding, and "
            "is then another model; fit it once by robustcl probe, and run that checkpoint"
        )
    device = own_device(options.device)
    few = replace(options, limit=MOST_FITTED, classes="names", device=device)
    dataset = read_data(few, split="train", transform=loaded.transform)
    if not dataset.labeled:
        raise InputError(f"{dataset.name!r} has no labels to fit --head {kind} on")

    def attempt(batch_size: int) -> Classifier:
        return fit_head(loaded.encoder, dataset, kind=kind, batch_size=batch_size, device=device)

    classifier = retry_smaller(attempt, options.batch_size)
    facts = {"head": kind, "labels": len(dataset)}
    recipe = {**loaded.description.recipe, "probe": facts}
    description = replace(loaded.description, recipe=recipe)
    if not rank():
        say(f"head: {kind}, fitted on {len(dataset):,} images of the training split")
    digest = hash_of(classifier, description)
    return replace(loaded, classifier=classifier, description=description, hash=digest)


def _opened(options: EvaluationOptions) -> Loaded:
    # The model with its own head, or with text prototypes as one.
    names, place = names_file(options.classes), options.checkpoint
    by_text = options.prototypes is not None or (bool(names) and place.is_dir() and has_text(place))
    if not by_text:
        return load_and_tell(place, model_request(options, class_names=names))
    request = replace(model_request(options), own_head=False)
    loaded = open_model(place, request)
    if options.prototypes is not None:
        found = read_prototypes(options.prototypes, names)
    else:
        found = text_prototypes(place, names)
    loaded = with_prototypes(loaded, found)
    tell_model(loaded)
    return loaded


def views_text(options: EvaluationOptions) -> str:
    """Name the views in a manifest.

    Args:
        options: The options.

    Returns:
        Family, count, aggregate and seed, or '' for one plain view.
    """
    if options.views is None:
        return ""
    return str(Views(options.views, options.count, options.aggregate, options.seed))


def evaluate_checkpoint(
    options: EvaluationOptions,
    audit: EvaluationConfig,
    classifier: Classifier,
    loaded: Loaded,
    *,
    require: Sequence[str] = (),
) -> int | None:
    """Measure a classifier and write the records.

    Under torchrun every process measures its share of the images.

    Args:
        options: The options.
        audit: What is measured.
        classifier: The model.
        loaded: Its checkpoint.
        require: Gates that the run will be held against.

    Returns:
        None where the run is complete and this process's to report, else an exit code: 130 when
        it was interrupted, 0 when other processes are still at work or only a plan was wanted.

    Raises:
        InputError: When the data has no labels but a gate is about an accuracy.
    """
    device = own_device(options.device)
    dataset = read_data(
        replace(options, device=device),
        split=options.split,
        classes=classifier.class_names,
        draw=old_rule(options.out, resume=options.resume),
        transform=loaded.transform,
    )
    if require and not dataset.labeled:
        raise InputError(
            f"{dataset.name!r} has no labels, so {require[0]!r} cannot be judged; leave --require "
            "out, or give labeled data"
        )
    _look(options, dataset, classifier, loaded, device)
    if options.plan is not None:
        return _tell(options, dataset, audit, classifier, device)
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    try:
        complete = evaluate(
            classifier,
            dataset,
            audit,
            options.out,
            origin=Origin(loaded.hash, command, known_accuracy(options, loaded)),
            device=device,
            resume=options.resume,
            mixed=options.mixed_versions,
            progress=not options.quiet and rank() == 0,
            tell=say,
        )
    except KeyboardInterrupt as stop:
        again = command if options.resume else f"{command} --resume"
        say(f"interrupted; the records in {options.out} are whole. Go on by: {again}")
        return stop_code(stop)
    if complete:
        return None
    say(f"process {rank()} of {rank_count()}: its share is done; the last one writes the report")
    return 0


def _look(
    options: EvaluationOptions,
    dataset: Dataset,
    classifier: Classifier,
    loaded: Loaded,
    device: str,
) -> None:
    # Said first, since nothing that follows makes sense where it is at chance.
    if rank() or not dataset.labeled or dataset.image_shape != classifier.image_shape:
        return
    look = retry_smaller(
        lambda size: first_look(classifier, dataset, batch_size=size, device=device),
        options.batch_size,
    )
    where = "" if look.images == len(dataset) else f" on {look.images:,} of them"
    say(f"clean accuracy{where}: {percent(look.accuracy)} {interval_text(look.interval95)}")
    own = own_accuracy(loaded.description)
    warning = chance_warning(look, own=own, classes=classifier.num_classes)
    if warning is not None:
        say(f"warning: {warning}")


def _tell(
    options: EvaluationOptions,
    dataset: Dataset,
    audit: EvaluationConfig,
    classifier: Classifier,
    device: str,
) -> int:
    if options.plan is None or options.plan < 1:
        raise InputError(f"--plan {options.plan} is no number of processes; use 1 or more")
    found = plan(classifier, dataset, audit, device=device, processes=options.plan)
    tell = partial(answer, json=options.json)
    tell(f"{'measure':44} {'seconds per image':>24} {'hours in all':>13}")
    for cost in found.costs:
        error = "" if math.isinf(cost.error) else f" ± {cost.error:.2g}"
        whole = cost.seconds * found.images / found.processes / 3600
        tell(f"{cost.method:44} {f'{cost.seconds:.3g}{error}':>24} {whole:>13.3g}")
    tell(
        f"{found.images:,} images on {found.processes} processes like this one: about "
        f"{found.seconds / 3600:.3g} hours ({found.seconds:.0f} s), from {found.measured} images"
    )
    if options.json:
        emit({**asdict(found), "seconds": found.seconds})
    return 0
