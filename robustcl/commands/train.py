"""Train an encoder and fit a prototype head."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch

from attacks import inner_ascent
from robustcl import __version__
from robustcl.architectures import build_backbone, embedding_size
from robustcl.checkpoint import Description, load_checkpoint, save_checkpoint
from robustcl.classifier import Classifier, Encoder
from robustcl.commands.claimed_constant import checked_constant, constants_text
from robustcl.commands.options import DataOptions, emit, read_data, refuse_existing, say
from robustcl.commands.spinning_threads import spinning_threads
from robustcl.commands.tell_targets import tell_targets
from robustcl.data import Dataset, label_subset
from robustcl.errors import InputError
from robustcl.fit_head import fit_head
from robustcl.out_of_memory import halving
from robustcl.robust import ADVERSARIAL, Acl, Deacl, NoisyViews, parse_robust
from robustcl.robust.lipschitz import CLAIMED, Lipschitz
from robustcl.training import Files, TrainLog, TrainRecipe, mixed_loss, train_encoder
from robustcl.training.processes import joined, rank_and_count
from robustcl.training.tensorboard_log import check_tensorboard
from robustcl.views import COLOR_VIEWS, DIGIT_VIEWS, GRAY_VIEWS

SIZED = (  # take image_size
    *("small_convnet", "strided_convnet", "batch_norm_convnet"),
    *("lipschitz_convnet", "lipschitz_convnet_large"),
)
VIEWS = {"auto": None, "digits": DIGIT_VIEWS, "gray": GRAY_VIEWS, "color": COLOR_VIEWS}


@dataclass(frozen=True, kw_only=True)
class TrainOptions(DataOptions):
    """Train an encoder on the training split, and fit a prototype head on the labeled images.

    Args:
        out: The checkpoint, ending in .safetensors; its log goes beside it as .csv, drawn as .png.
        recipe: A TOML file with any of these options; the command line goes before it.
        arch: small_convnet, strided_convnet, batch_norm_convnet, cifar_resnet18 or, for --robust
            lipschitz, lipschitz_convnet or lipschitz_convnet_large.
        loss: Losses joined by plus signs: simclr, supcon, suncet, debiased, hard_negative, filter,
            semantic, batch_prototypes, margin_suncet and cross_entropy, with options as in
            simclr+suncet:temperature=.1,weight=.5,until=50 or
            filter:class_prior=.1,action=attract,confidence=.9.
        labels: Share of training images whose labels are used, the same number in every class.
        label_seed: Seed of their choice.
        targets: Class vectors of semantic: simplex, taxonomy, taxonomy:FILE.toml, words:FILE or
            npy:FILE, with ',center=true' and ',blend=B'.
        epochs: Passes over the data.
        optimizer: adamw, sgd with Nesterov momentum, lars, or muon for lipschitz.
        learning_rate: Peak of the cosine schedule; lars wants about 0.3 per 256 images of a step,
            muon about 0.02.
        weight_decay: Decoupled for adamw and muon; an L2 penalty for sgd and lars.
        momentum: Of sgd, lars and muon.
        ema: Decay per step of the moving average of weights, as 0.99; the average is what is saved
            and measured; 0 for none.
        warmup: Share of the schedule in which the rate rises.
        temperature: tau of NT-Xent where loss is simclr; 0.5 by default.
        label_weight: Weight w in (1 - w) simclr + w supcon, where loss is simclr.
        projector: Hidden units of a perceptron between embedding and losses that is thrown away
            after training; 0 for none.
        robust: How training is made robust, as in penalty:weight=.1,norm=linf,direction=random,
            noise:sigma=.25,consistency=1, lipschitz or acl:eps=4/255,steps=1 (rocl, acl, dynacl,
            deacl); nothing for not at all. deacl first trains a teacher with these options and
            without attack, or takes deacl:teacher=CHECKPOINT.
        log_norm_penalty: Weight of the log-norm penalty, which widens certified radii.
        views: auto (by data set), digits, gray or color.
        max_seconds: The schedule ends by then.
        batch_size: Images per batch, all processes of torchrun together.
        accumulate: Batches per step; negatives come from one batch only.
        labeled_batch: Images in the class-stratified batch of suncet, semantic and cross_entropy;
            by default a quarter of the batch where labels are few.
        autocast: Run the encoder in bfloat16.
        compile: Compile the encoder.
        save_every: Steps between two states from which --resume goes on.
        resume: Go on with a run that was interrupted.
        measure_every: Epochs between measurements of kNN accuracy (on training images),
            contradiction and collapse, which go into the log; 0 for never.
        tensorboard: A folder for TensorBoard's event files, beside the .csv.
        overwrite: Replace an existing checkpoint.
        json: Write one JSON object on stdout.
        quiet: No progress bar.
    """

    out: Path
    recipe: Path | None = None
    arch: str = "small_convnet"
    loss: str = "simclr"
    labels: float = 1.0
    label_seed: int = 0
    targets: str = "simplex"
    epochs: int = 30
    optimizer: Literal["adamw", "sgd", "lars", "muon"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    ema: float = 0.0
    warmup: float = 0.05
    temperature: float | None = None
    label_weight: float = 0.0
    projector: int = 0
    robust: str = ""
    log_norm_penalty: float = 0.0
    views: Literal["auto", "digits", "gray", "color"] = "auto"
    max_seconds: float | None = None
    batch_size: int = 256
    accumulate: int = 1
    labeled_batch: int | None = None
    autocast: bool = False
    compile: bool = False
    save_every: int = 500
    resume: bool = False
    measure_every: int = 1
    tensorboard: Path | None = None
    overwrite: bool = False
    json: bool = False
    quiet: bool = False


def train(options: TrainOptions) -> int:
    """Run `robustcl train`.

    Args:
        options: The options.

    Returns:
        The exit code.
    """
    from robustcl.report.training_figure import write_training_figure  # slow to import

    refuse_existing(options.out, overwrite=options.overwrite)
    files, recipe = _files(options), recipe_of(options)
    warning = spinning_threads() if options.device == "cpu" else None
    if warning:
        say(warning)
    with joined(options.device) as device:
        options = replace(options, device=device)
        dataset = read_data(options, split="train")
        geometry = tell_targets(recipe, dataset)
        teacher = _teacher(options, recipe, files, dataset)
        if isinstance(recipe.method, Deacl) and files.state is not None:  # killed with the teacher
            files = replace(files, resume=options.resume and files.state.exists())
        encoder, log, arguments = _trained(options, recipe, files, dataset, teacher)
        if rank_and_count()[0]:
            return 0
    model, known = _with_head(encoder, dataset, options, recipe)
    description = _description(options, recipe, encoder, arguments, dataset)
    constants = _constants(encoder, description)
    save_checkpoint(options.out, model, description)
    assert files.state is not None and files.log is not None
    files.state.unlink(missing_ok=True)
    write_training_figure(files.log)
    _tell(options, log, len(dataset), {"labels": known, **geometry, **constants})
    return 0


def recipe_of(options: TrainOptions) -> TrainRecipe:
    """Turn the options into a recipe.

    Args:
        options: The options.

    Returns:
        The recipe.

    Raises:
        InputError: When options contradict each other, or a value is not usable.
    """
    loss = options.loss
    if loss in ("simclr", "nt_xent"):
        temperature = 0.5 if options.temperature is None else options.temperature
        loss = mixed_loss(options.label_weight, temperature=temperature)
    elif options.label_weight or options.temperature is not None:
        raise InputError(
            f"--label-weight and --temperature go with --loss simclr, not {loss!r}; write them "
            "into the loss, as in simclr:temperature=.2,weight=.5+supcon"
        )
    own = {entry.name for entry in fields(TrainRecipe)} - {"loss", "views"}
    values = {name: getattr(options, name) for name in own}
    if isinstance(parse_robust(options.robust), Deacl):
        values["projector"] = 0  # it is the teacher's
    return TrainRecipe(loss=loss, views=VIEWS[options.views], **values)


def _description(
    options: TrainOptions,
    recipe: TrainRecipe,
    encoder: Encoder,
    arguments: dict[str, int],
    dataset: Dataset,
) -> Description:
    kept = {"batch_norm": ADVERSARIAL} if isinstance(recipe.method, Acl) else {}
    stated = {"weights_seed": options.seed, "data": dataset.name, **kept}
    return Description(
        architecture=options.arch,
        arguments=arguments,
        image_shape=dataset.image_shape,
        embedding_size=embedding_size(encoder.backbone, dataset.image_shape),
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
        return load_checkpoint(method.teacher).encoder
    place = options.out.with_suffix(".teacher.safetensors")
    if options.resume and place.exists():
        return load_checkpoint(place).encoder
    standard = replace(recipe, robust="", projector=options.projector)
    state = place.with_suffix(".state.safetensors")
    resume = options.resume and state.exists()
    own = replace(files, state=state, log=place.with_suffix(".csv"), resume=resume)
    encoder, _, arguments = _trained(options, standard, own, dataset)
    if rank_and_count()[0] == 0:
        save_checkpoint(
            place, encoder, _description(options, standard, encoder, arguments, dataset)
        )
        state.unlink(missing_ok=True)
        say(f"teacher: {place}")
    return encoder


def _files(options: TrainOptions) -> Files:
    if options.save_every < 0 or options.measure_every < 0:
        raise InputError("--save-every and --measure-every are 0 or more")
    if options.tensorboard is not None:
        check_tensorboard()
    if options.out.suffix != ".safetensors":
        raise InputError(f"--out {options.out} does not end in .safetensors; name it so")
    state = options.out.with_suffix(".state.safetensors")
    if state.exists() and not (options.resume or options.overwrite):
        raise InputError(
            f"{str(state)!r} is there from an interrupted run; add --resume to go on, or "
            "--overwrite to start again"
        )
    return Files(
        state=state,
        save_every=options.save_every,
        resume=options.resume,
        log=options.out.with_suffix(".csv"),
        measure_every=options.measure_every,
        tensorboard=options.tensorboard,
    )


def _trained(
    options: TrainOptions,
    recipe: TrainRecipe,
    files: Files,
    dataset: Dataset,
    teacher: Encoder | None = None,
) -> tuple[Encoder, TrainLog, dict[str, int]]:
    shape = dataset.image_shape
    arguments: dict[str, int] = {"channels": shape[0]}
    if options.arch in SIZED:
        arguments["image_size"] = shape[1]
    if isinstance(recipe.method, Lipschitz) and recipe.method.layers != "patch":
        arguments["overlapping"] = 1

    def attempt(batch_size: int) -> tuple[Encoder, TrainLog]:
        torch.manual_seed(options.seed)
        encoder = Encoder(build_backbone(options.arch, arguments), image_shape=shape)
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
    return *halving(attempt, options.batch_size), arguments


def _with_head(
    encoder: Encoder, dataset: Dataset, options: TrainOptions, recipe: TrainRecipe
) -> tuple[Encoder | Classifier, int]:
    # The head sees the labels that the losses may see, and no other; and the noise that they see.
    if not dataset.labeled or options.labels == 0.0:
        return encoder.to("cpu"), 0
    rows = label_subset(
        dataset.labels, options.labels, num_classes=dataset.num_classes, seed=options.label_seed
    )
    classifier = fit_head(
        encoder,
        dataset.select(rows),
        batch_size=options.batch_size,
        device=options.device,
        noise=recipe.method.sigma if isinstance(recipe.method, NoisyViews) else 0.0,
        seed=options.seed,
    )
    return classifier, len(rows)


def _constants(encoder: Encoder, description: Description) -> dict[str, float]:
    # The claim is held against the bound before anything is saved.
    claimed, computed = description.lipschitz_constant, checked_constant(encoder, description)
    if claimed is None or computed is None:
        return {}
    say(constants_text(claimed, computed))
    return {"claimed_constant": claimed, "computed_constant": computed}


def _tell(options: TrainOptions, log: TrainLog, images: int, facts: dict[str, Any]) -> None:
    say(f"trained in {log.seconds:.0f} s on {images} images; checkpoint: {options.out}")
    known = facts["labels"]
    say(f"prototype head from {known} labels" if known else "no labels, so no head: see probe")
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
