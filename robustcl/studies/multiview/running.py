"""Study whether it helps to look many times: accuracy, robustness, calibration."""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from robustcl.core.budgets import read_budget
from robustcl.core.choices import Aggregate, Draw
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.last_handler import stop_code
from robustcl.core.terminal import answer, emit, say
from robustcl.data import Dataset
from robustcl.data.class_names import absent_classes, check_classes, some_names
from robustcl.data.splits import draw_order
from robustcl.data.transform import ImageTransform
from robustcl.evaluation.manifest import device_name, package_versions, rows_entry
from robustcl.models.inference_views import draw_views
from robustcl.models.sources.request import ModelRequest
from robustcl.options.multiview import MultiviewOptions
from robustcl.records.reading import SCHEMA, config_hash
from robustcl.records.study_file import write_study
from robustcl.records.writing import run_session, start_run, update_manifest
from robustcl.report.study_page import headline_model, sentences, write_study_report
from robustcl.studies.multiview.outputs import Study
from robustcl.studies.multiview.plan import StudyPlan
from robustcl.studies.multiview.results import run_study
from robustcl.workflows.data import old_rule, read_data
from robustcl.workflows.models import load_and_tell, load_ensemble, model_request, trained_views
from robustcl.workflows.outputs import refuse_inside_data

_DEFAULT_EPS = {"l2": "0.25", "linf": "8/255", "l1": "12"}

_HELD_OUT = 500  # images at most, where the user says nothing


def multiview(options: MultiviewOptions) -> int:
    """Run `robustcl multiview`.

    Args:
        options: The options.

    Returns:
        The exit code.

    Raises:
        InputError: When the checkpoint has no head.
    """
    plan = make_plan(options)
    for data in (options.data, options.held_out_data or ""):
        refuse_inside_data(options.out, data)
    with run_session(options.out):
        return _multiview(options, plan)


def _multiview(options: MultiviewOptions, plan: StudyPlan) -> int:
    started = time.monotonic()
    loaded = load_and_tell(options.checkpoint, model_request(options))
    if loaded.classifier is None:
        raise InputError(f"{str(options.checkpoint)!r} has no head; fit one by: robustcl probe")
    draw = old_rule(options.out, resume=options.resume)
    test, held_out = chosen_images(
        options, loaded.classifier.class_names, draw=draw, transform=loaded.transform
    )
    if draw == "first":  # the version that began the study stated no rows
        test = replace(test, rows=None)
    single = loaded.classifier.to(options.device)
    check_fits(test, single)
    members = [Path(part) for part in (options.ensemble or "").split(",") if part]
    training = trained_views(loaded.description, options.data)
    study = Study(
        plan=plan,
        single=single,
        views=[
            view.to(options.device)
            for view in draw_views(
                plan.views, plan.most, image_shape=single.image_shape, seed=plan.seed,
                training=training,
            )
        ],
        test=test,
        held_out=held_out,
        folder=options.out,
        device=options.device,
        tell=(lambda _: None) if options.quiet else say,
        ensemble=load_ensemble(
            members,
            request=ModelRequest(arch=options.arch),
            device=options.device,
            classes=single.class_names,
        ),
        training=training,
    )  # fmt: skip
    stated = _manifest(options, plan, study, loaded.hash)
    start_run(options.out, stated, resume=options.resume, mixed=options.mixed_versions)
    try:
        found = run_study(study)
    except KeyboardInterrupt as stop:
        say(f"interrupted; whole stages are in {options.out}. Go on by adding --resume")
        return stop_code(stop)
    if found["baseline"]:
        found["baseline"]["members"] = len(members)
    write_study(options.out, found)
    spent = time.monotonic() - started
    update_manifest(options.out, {"seconds": spent, "complete": True})
    page = write_study_report(options.out)
    manifest = _config(options, plan, study, loaded.hash)
    for sentence in sentences(found, manifest):
        answer(sentence, json=options.json)
    answer(f"report: {page}", json=options.json)
    if options.json:
        name = headline_model(found)
        emit({"report": str(page), "model": name, "sentences": sentences(found, manifest),
              **found["comparisons"][name]})  # fmt: skip
    return 0


def make_plan(options: MultiviewOptions) -> StudyPlan:
    """Read counts, aggregates and the budget.

    Args:
        options: The options.

    Returns:
        The plan.

    Raises:
        InputError: When a count is no whole number, or eps is not usable.
    """
    parts = options.count.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise InputError(f"--count {options.count!r} is not whole numbers; write 1,2,4,8")
    names = tuple(name.strip() for name in options.aggregate.split(","))
    eps = _DEFAULT_EPS[options.norm] if options.eps is None else options.eps
    return StudyPlan(
        views=options.views,
        counts=tuple(int(part) for part in parts),
        aggregates=cast(tuple[Aggregate, ...], names),
        norm=options.norm,
        eps=read_budget(eps, options.norm),
        attacked=options.attacked,
        attack=options.attack,
        noise=options.noise,
        seed=options.seed,
        batch_size=options.batch_size,
        certificates=options.certificates,
        draws=options.draws,
    )


def chosen_images(
    options: MultiviewOptions,
    classes: Sequence[str],
    *,
    draw: Draw = "stratified",
    transform: ImageTransform | None = None,
) -> tuple[Dataset, Dataset]:
    """Choose test images and others to hold out.

    Args:
        options: The options.
        classes: The class names of the classifier.
        draw: 'stratified' draws by seed, so that a larger limit keeps the images of a smaller one;
            'first' puts the images into one random order whatever the seed, as version 0.1.0 did.
        transform: How the model's own files bring images to its size; None for not.

    Returns:
        Test images and held-out images.

    Raises:
        InputError: When there are too few, or they have no labels.
    """
    if options.held_out is not None and options.held_out < 1:
        raise InputError(f"--held-out {options.held_out} leaves none; temperatures need images")
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit {options.limit} leaves no image; use 1 or more")
    everything = replace(options, limit=None)
    read = partial(read_data, split=options.split, classes=classes, transform=transform)
    whole = _in_order(read(everything), options, draw)
    if options.held_out_data is not None:
        other = replace(everything, data=options.held_out_data)
        held = _in_order(read(other), options, draw)
        count = _HELD_OUT if options.held_out is None else options.held_out
        return _told(whole, whole.select(slice(options.limit)), held.select(slice(count)))
    count = min(_HELD_OUT, len(whole) // 3) if options.held_out is None else options.held_out
    limit = options.limit or len(whole) - count
    if limit < 1 or limit + count > len(whole):
        raise InputError(
            f"{whole.name!r} has {len(whole)} images, not {max(limit, 1)} to test and "
            f"{count} to hold out; lower --limit or --held-out"
        )
    test = whole.select(slice(limit))
    return _told(whole, test, whole.select(slice(limit, limit + count)))


def _in_order(dataset: Dataset, options: MultiviewOptions, draw: Draw) -> Dataset:
    if not dataset.labeled:
        raise InputError(
            f"{dataset.name!r} has no labels, so accuracy and calibration cannot be studied; give "
            "labeled data"
        )
    if draw == "first":
        return dataset.select(np.random.default_rng(0).permutation(len(dataset)))
    return dataset.select(draw_order(dataset.labels, seed=options.seed))


def _told(whole: Dataset, test: Dataset, held_out: Dataset) -> tuple[Dataset, Dataset]:
    say(f"{len(test):,} images are tested, {len(held_out):,} others are held out")
    count = whole.num_classes
    known = absent_classes(whole.labels, whole.class_names, count)
    absent = [c for c in absent_classes(test.labels, whole.class_names, count) if c not in known]
    if absent:
        say(f"no image that is tested is of {some_names(absent)}")
    return test, held_out


def check_fits(dataset: Dataset, classifier: Classifier) -> None:
    """Refuse images or labels that the classifier does not know.

    Args:
        dataset: The images.
        classifier: The model.

    Raises:
        InputError: When shapes differ or a label is beyond its classes.
    """
    known = classifier.num_classes
    check_classes(dataset, classifier.class_names)
    if dataset.image_shape != classifier.image_shape or int(dataset.labels.max()) >= known:
        raise InputError(
            f"{dataset.name!r} has images {dataset.image_shape} and labels to "
            f"{int(dataset.labels.max())}, the classifier takes {classifier.image_shape} and "
            f"{known} classes; add ',size=N' to the data, or probe the checkpoint on it"
        )


def _config(
    options: MultiviewOptions, plan: StudyPlan, study: Study, checkpoint_hash: str
) -> dict[str, Any]:
    stated = asdict(plan)
    if not plan.draws:
        del stated["draws"]  # as before there was such an option: those studies can go on
    return {
        **stated,
        "data": study.test.name,
        "data_hash": study.test.hash(),
        "held_out_hash": study.held_out.hash(),
        **rows_entry(study.test),
        "num_examples": len(study.test),
        "num_attacked": min(plan.attacked, len(study.test)),
        "num_held_out": len(study.held_out),
        "checkpoint_hash": checkpoint_hash,
        "ensemble": [Path(part).name for part in (options.ensemble or "").split(",") if part],
    }


def _manifest(
    options: MultiviewOptions, plan: StudyPlan, study: Study, checkpoint_hash: str
) -> dict[str, Any]:
    config = _config(options, plan, study, checkpoint_hash)
    return {
        "schema": SCHEMA,
        "kind": "multiview",
        "config": config,
        "config_hash": config_hash(config),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        **({} if study.test.rows is None else {"rows": study.test.rows.tolist()}),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": package_versions(),
        "device": device_name(str(options.device)),
        "seconds": 0.0,
        "complete": False,
    }
