"""Train an encoder and fit a prototype head."""

from dataclasses import asdict, replace
from functools import partial
from inspect import signature
from typing import Any

import torch

from robustcl import __version__
from robustcl.attacks import inner_ascent
from robustcl.core.atomic import remove
from robustcl.core.batching import retry_smaller
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError, RobustclError, RunError
from robustcl.core.last_handler import stop_code
from robustcl.core.terminal import answer, emit, say
from robustcl.data import Dataset, label_subset
from robustcl.data.class_names import absent_classes, some_names
from robustcl.evaluation.check_model import first_look
from robustcl.models.architectures import build_backbone, embedding_size
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint
from robustcl.models.description import Description
from robustcl.models.dual_batch_norm import ADVERSARIAL
from robustcl.models.encoders import ARCHITECTURES
from robustcl.models.heads.fitting import fit_head
from robustcl.options.train import TrainOptions
from robustcl.records.ranks import rank
from robustcl.training import Files, TrainLog, TrainRecipe, train_encoder
from robustcl.training.processes import joined_processes, rank_and_count
from robustcl.training.resume_state import stated_data
from robustcl.training.robust import Acl, Deacl, NoisyViews
from robustcl.training.robust.lipschitz import CLAIMED, Lipschitz
from robustcl.training.targets import load_targets, target_geometry
from robustcl.workflows.data import read_data
from robustcl.workflows.models import checked_constant, constants_text, load_and_tell
from robustcl.workflows.outputs import refuse_inside_data
from robustcl.workflows.recipes import recipe_of
from robustcl.workflows.train_files import (
    difference,
    is_over,
    last_row,
    teacher_place,
    told,
    training_files,
    training_session,
)


def tell_targets(recipe: TrainRecipe, dataset: Dataset) -> dict[str, Any]:
    """Say how far apart the class vectors are, which bounds the radius of semantic training.

    Args:
        recipe: Its losses and targets count.
        dataset: Its class names count.

    Returns:
        The geometry under 'targets', or nothing where no loss has class vectors.
    """
    if not any(term.name == "semantic" for term in recipe.terms):
        return {}
    names = dataset.class_names or tuple(str(k) for k in range(dataset.num_classes))
    found = target_geometry(load_targets(recipe.targets, names), names)
    one, other = found.closest
    say(
        f"targets {recipe.targets}: mean cosine {found.mean_cosine:.2f}, closest {one} and {other} "
        f"({found.highest_cosine:.2f}); at its target an image of {one} has a radius of at most "
        f"{min(found.caps):.2f} / L for an encoder of Lipschitz constant L"
    )
    return {"targets": asdict(found)}


def train_and_save(options: TrainOptions) -> int:
    """Run `robustcl train`.

    Args:
        options: The options.

    Returns:
        The exit code.
    """
    recipe = recipe_of(options)
    refuse_inside_data(options.out, options.data)
    files = training_files(options, recipe)
    try:
        return _train(options, recipe, files)
    except KeyboardInterrupt as stop:
        if rank() == 0:
            say(f"interrupted; go on by the same command and --resume ({options.out})")
        return stop_code(stop)


def _train(options: TrainOptions, recipe: TrainRecipe, files: Files) -> int:
    from robustcl.report.training_figure import write_training_figure  # slow to import

    with training_session(options.out):
        with joined_processes(options.device) as device:
            options = replace(options, device=device)
            dataset = _read(options, files)
            _check_head(options, dataset)
            geometry = tell_targets(recipe, dataset)
            if _is_over(options, recipe, files, dataset):
                return 0 if rank_and_count()[0] else _end_again(options, files, dataset, geometry)
            teacher = _teacher(options, recipe, files, dataset)
            files = _begun(options, files)
            encoder, log, arguments = _trained(options, recipe, files, dataset, teacher)
            if rank_and_count()[0]:
                return 0
        model, head = _with_head(encoder, dataset, options, recipe)
        description = _description(options, recipe, arguments, dataset)
        size = embedding_size(encoder.backbone, dataset.image_shape)
        description = replace(description, embedding_size=size)
        if head:
            description = replace(description, recipe={**description.recipe, "head": head})
        constants = _constants(encoder, description, options)
        save_checkpoint(options.out, model, description)
        assert files.state is not None and files.log is not None
        write_training_figure(files.log)
        remove(files.state)  # last: what comes before can be done again from it
        _tell(options, log, len(dataset), {"labels": 0, **head, **geometry, **constants})
    return 0


def _is_over(options: TrainOptions, recipe: TrainRecipe, files: Files, dataset: Dataset) -> bool:
    # Killed after its checkpoint was saved. With --overwrite one of another run is replaced.
    assert files.state is not None
    if not options.resume:
        return False
    arguments = _arguments(options, recipe, dataset)
    wanted = _description(options, recipe, arguments, dataset)
    try:
        return is_over(options.out, files.state, wanted, recipe.epochs)
    except RobustclError:
        if options.overwrite:
            return False
        raise


def _end_again(
    options: TrainOptions, files: Files, dataset: Dataset, geometry: dict[str, Any]
) -> int:
    # What a run does after its checkpoint is saved, of one that could not.
    from robustcl.report.training_figure import write_training_figure  # slow to import

    assert files.state is not None and files.log is not None
    loaded = load_checkpoint(options.out)
    constants = _constants(loaded.encoder, loaded.description, options)
    row = last_row(files.log)
    if files.log.exists():
        try:
            write_training_figure(files.log)
        except InputError as error:  # a damaged log takes nothing from the checkpoint
            say(f"note: {error}; its figure is not drawn")
    remove(files.state)
    answer(f"the training was over; checkpoint: {options.out}", json=options.json)
    if options.json:
        facts = told(options, row, loaded.description.recipe)
        emit({"checkpoint": str(options.out), "images": len(dataset), **facts, **geometry,
              **constants})  # fmt: skip
    return 0


def _begun(options: TrainOptions, files: Files) -> Files:
    # A run that was killed before its first state begins anew, and so does one that is overwritten.
    assert files.state is not None
    there = files.state.exists()
    if options.resume and not there and not rank_and_count()[0]:
        say(f"no state {str(files.state)!r} to go on from: the training begins anew")
    if there and not options.resume and not rank_and_count()[0]:
        remove(files.state)  # of the run that is overwritten
    return replace(files, resume=options.resume and there)


def _check_head(options: TrainOptions, dataset: Dataset) -> None:
    # The head after training needs an image of every class: said before, not after.
    if not dataset.labeled or options.labels == 0.0:
        return
    absent = absent_classes(dataset.labels, dataset.class_names, dataset.num_classes)
    if absent:
        raise InputError(
            f"no training image of {some_names(absent)}, so no head can be fitted; give more "
            "images, leave these classes out of the data, or add --labels 0 for no head"
        )


def _read(options: TrainOptions, files: Files) -> Dataset:
    # A state that an older version left goes on with the rows that it took, the first ones.
    dataset = read_data(options, split="train")
    state = files.state
    if options.limit is None or state is None or not (options.resume and state.exists()):
        return dataset
    stated = stated_data(state)
    if stated and stated != dataset.hash():
        first = read_data(options, split="train", draw="first")
        return first if first.hash() == stated else dataset
    return dataset


def _description(
    options: TrainOptions,
    recipe: TrainRecipe,
    arguments: dict[str, int],
    dataset: Dataset,
) -> Description:
    # Without what only the trained encoder knows.
    kept = {"batch_norm": ADVERSARIAL} if isinstance(recipe.method, Acl) else {}
    stated = {"weights_seed": options.seed, "data": dataset.name, **kept}
    stated["data_hash"] = dataset.hash()  # by which --resume knows a run that is over
    return Description(
        architecture=options.encoder,
        arguments=arguments,
        image_shape=dataset.image_shape,
        recipe={**recipe.to_dict(), **stated},
        version=__version__,
        lipschitz_constant=CLAIMED if isinstance(recipe.method, Lipschitz) else None,
    )


def _teacher(
    options: TrainOptions, recipe: TrainRecipe, files: Files, dataset: Dataset
) -> Encoder | None:
    # Of deacl: a given checkpoint, or one that is trained beforehand and kept beside the student.
    method = recipe.method
    if not isinstance(method, Deacl):
        return None
    if method.teacher:
        return load_and_tell(method.teacher).encoder
    place = teacher_place(options.out)
    standard = replace(recipe, robust="", projector=options.projector)
    wanted = _description(options, standard, _arguments(options, standard, dataset), dataset)
    state = place.with_suffix(".state.safetensors")
    if options.resume and place.exists():
        other = difference(place, wanted)
        if other:
            raise RunError(
                f"{str(place)!r} is not the teacher of this training ({other}); repeat its "
                "options, or start again with --overwrite and without --resume"
            )
        if rank_and_count()[0] == 0:
            remove(state)  # killed between the two
        return load_checkpoint(place).encoder
    resume = options.resume and state.exists()
    own = replace(files, state=state, log=place.with_suffix(".csv"), resume=resume)
    encoder, _, arguments = _trained(options, standard, own, dataset)
    if rank_and_count()[0] == 0:
        size = embedding_size(encoder.backbone, dataset.image_shape)
        save_checkpoint(place, encoder, replace(wanted, arguments=arguments, embedding_size=size))
        remove(state)
        say(f"teacher: {place}")
    return encoder


def _arguments(options: TrainOptions, recipe: TrainRecipe, dataset: Dataset) -> dict[str, int]:
    shape = dataset.image_shape
    arguments: dict[str, int] = {"channels": shape[0]}
    if "image_size" in signature(ARCHITECTURES.get(options.encoder, dict)).parameters:
        arguments["image_size"] = shape[1]
    if isinstance(recipe.method, Lipschitz) and recipe.method.layers != "patch":
        arguments["overlapping"] = 1
    return arguments


def _trained(
    options: TrainOptions,
    recipe: TrainRecipe,
    files: Files,
    dataset: Dataset,
    teacher: Encoder | None = None,
) -> tuple[Encoder, TrainLog, dict[str, int]]:
    shape = dataset.image_shape
    arguments = _arguments(options, recipe, dataset)

    def attempt(batch_size: int) -> tuple[Encoder, TrainLog]:
        torch.manual_seed(options.seed)
        encoder = Encoder(build_backbone(options.encoder, arguments), image_shape=shape)
        log = train_encoder(
            encoder,
            dataset,
            replace(recipe, batch_size=batch_size),
            device=options.device,
            files=files,
            progress=not options.quiet,
            attack=inner_ascent,
            teacher=teacher,
        )
        return encoder, log

    if rank_and_count()[1] > 1:  # one process alone cannot take a smaller batch
        return *attempt(options.batch_size), arguments
    return *retry_smaller(attempt, options.batch_size), arguments


def _with_head(
    encoder: Encoder, dataset: Dataset, options: TrainOptions, recipe: TrainRecipe
) -> tuple[Encoder | Classifier, dict[str, Any]]:
    # The head sees the labels that the losses may see, and no other; and the noise that they see.
    if not dataset.labeled or options.labels == 0.0:
        return encoder.to("cpu"), {}
    rows = label_subset(
        dataset.labels, options.labels, num_classes=dataset.num_classes, seed=options.label_seed
    )
    part = dataset.select(rows)
    classifier = fit_head(
        encoder,
        part,
        batch_size=options.batch_size,
        device=options.device,
        noise=recipe.method.sigma if isinstance(recipe.method, NoisyViews) else 0.0,
        seed=options.seed,
    )
    look = first_look(
        classifier, part, batch_size=options.batch_size, device=options.device, most=len(part)
    )
    return classifier, {"labels": len(rows), "train_accuracy": look.accuracy}


def _constants(
    encoder: Encoder, description: Description, options: TrainOptions
) -> dict[str, float]:
    # The claim is held against the bound before anything is saved.
    claimed, computed = description.lipschitz_constant, checked_constant(encoder, description)
    if claimed is None or computed is None:
        return {}
    answer(constants_text(claimed, computed), json=options.json)
    return {"claimed_constant": claimed, "computed_constant": computed}


def _tell(options: TrainOptions, log: TrainLog, images: int, facts: dict[str, Any]) -> None:
    tell = partial(answer, json=options.json)
    tell(f"trained in {log.seconds:.0f} s on {images} images; checkpoint: {options.out}")
    known = facts["labels"]
    right = f": {facts['train_accuracy']:.1%} of their images are right" if known else ""
    tell(
        f"prototype head from {known} labels{right}"
        if known
        else "no labels, so no head: see probe"
    )
    if options.json:
        last = log.rows[-1]
        measured = {k: last[k] for k in ("knn_accuracy", "contradiction_share") if k in last}
        emit({
            "checkpoint": str(options.out),
            "seconds": log.seconds,
            "images": images,
            "images_per_second": log.images_per_second,
            **facts,
            **measured,
        })
