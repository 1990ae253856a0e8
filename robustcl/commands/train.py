"""Train an encoder and fit a prototype head."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from robustcl import __version__
from robustcl.architectures import build_backbone, embedding_size
from robustcl.checkpoint import Description, save_checkpoint
from robustcl.classifier import Encoder
from robustcl.commands.options import DataOptions, emit, read_data, refuse_existing, say
from robustcl.fit_head import fit_head
from robustcl.out_of_memory import halving
from robustcl.training import SimCLRRecipe, train_simclr


@dataclass(frozen=True, kw_only=True)
class TrainOptions(DataOptions):
    """Train an encoder by SimCLR on the training split, and fit a prototype head.

    Args:
        out: The checkpoint, ending in .safetensors.
        arch: small_convnet or cifar_resnet18.
        epochs: Passes over the data.
        learning_rate: Peak of the cosine schedule.
        temperature: tau of NT-Xent.
        label_weight: Weight of the supervised contrastive loss, 0 for plain SimCLR.
        log_norm_penalty: Weight of the log-norm penalty, which widens certified radii.
        max_seconds: The schedule ends by then.
        batch_size: Images per step.
        overwrite: Replace an existing checkpoint.
        json: Write one JSON object on stdout.
        quiet: No progress bar.
    """

    out: Path
    arch: str = "small_convnet"
    epochs: int = 30
    learning_rate: float = 2e-3
    temperature: float = 0.5
    label_weight: float = 0.0
    log_norm_penalty: float = 0.0
    max_seconds: float | None = None
    batch_size: int = 256
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
    refuse_existing(options.out, overwrite=options.overwrite)
    dataset = read_data(options, split="train")
    recipe = SimCLRRecipe(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        temperature=options.temperature,
        label_weight=options.label_weight,
        log_norm_penalty=options.log_norm_penalty,
        max_seconds=options.max_seconds,
        seed=options.seed,
    )
    shape = dataset.image_shape
    arguments: dict[str, int] = {"channels": shape[0]}
    if options.arch == "small_convnet":
        arguments["image_size"] = shape[1]

    def attempt(batch_size: int) -> tuple[Encoder, float]:
        torch.manual_seed(options.seed)
        encoder = Encoder(build_backbone(options.arch, arguments), image_shape=shape)
        log = train_simclr(
            encoder,
            dataset,
            replace(recipe, batch_size=batch_size),
            device=options.device,
            progress=not options.quiet,
        )
        return encoder, log.seconds

    encoder, seconds = halving(attempt, options.batch_size)
    classifier = fit_head(encoder, dataset, batch_size=options.batch_size, device=options.device)
    description = Description(
        architecture=options.arch,
        arguments=arguments,
        image_shape=shape,
        embedding_size=embedding_size(encoder.backbone, shape),
        recipe={**recipe.to_dict(), "weights_seed": options.seed, "data": dataset.name},
        version=__version__,
    )
    save_checkpoint(options.out, classifier, description)
    say(f"trained in {seconds:.0f} s on {len(dataset)} images; checkpoint: {options.out}")
    if options.json:
        emit({"checkpoint": str(options.out), "seconds": seconds, "images": len(dataset)})
    return 0
