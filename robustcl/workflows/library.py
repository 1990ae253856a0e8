"""Train, load and save from Python: what the commands do, as plain functions."""

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from robustcl.attacks._inner_ascent import inner_ascent
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.data.subsets import label_subset
from robustcl.declarations.robust import encoder_of
from robustcl.models.architectures import build_backbone, embedding_size
from robustcl.models.checkpoint import save_checkpoint
from robustcl.models.description import Description
from robustcl.models.encoders import ARCHITECTURES
from robustcl.models.heads.fitting import fit_head
from robustcl.models.sources.opening import open_model
from robustcl.models.sources.request import ModelRequest
from robustcl.training.loop import train_encoder
from robustcl.training.recipe import TrainRecipe
from robustcl.training.robust import NoisyViews
from robustcl.workflows.given import Data, given_data


def train(
    data: Data,
    *,
    arch: str | None = None,
    out: str | Path | None = None,
    teacher: Encoder | None = None,
    device: str = "cpu",
    progress: bool = False,
    **options: Any,
) -> Classifier | Encoder:
    """Train an encoder, and fit a prototype head where there are labels, as `robustcl train` does.

    Args:
        data: A source, a data set, or images and labels, as of `audit`; the training split of a
            source is used.
        arch: An encoder of this package, or torchvision:NAME, timm:NAME; None for the one that
            `robust` wants, or small_convnet.
        out: A new checkpoint to write, ending in .safetensors; None for none.
        teacher: What the student of robust='deacl' learns from.
        device: Where to train.
        progress: Whether to show a bar on stderr.
        **options: Fields of `robustcl.training.TrainRecipe`: loss, epochs, learning_rate, robust,
            labels, seed, ...

    Returns:
        The classifier on the CPU, in eval mode; its head has seen the share `labels` of the labels
        and, for robust='noise', the same noise. An encoder where there are no labels.

    Raises:
        InputError: When the data or an option is not usable, or `out` exists.
    """
    unknown = set(options) - set(signature(TrainRecipe).parameters)
    if unknown:
        raise InputError(f"unknown option {min(unknown)!r}; see robustcl.training.TrainRecipe")
    recipe = TrainRecipe(**options)
    if out is not None:  # said before the work, not after it
        _check_new(Path(out))
    dataset = given_data(data, split="train", seed=recipe.seed).take(None)
    name = arch or encoder_of(recipe.robust)
    arguments: dict[str, int] = {"channels": dataset.image_shape[0]}
    if "image_size" in signature(ARCHITECTURES.get(name, dict)).parameters:
        arguments["image_size"] = dataset.image_shape[1]
    torch.manual_seed(recipe.seed)
    encoder = Encoder(build_backbone(name, arguments), image_shape=dataset.image_shape)
    train_encoder(
        encoder,
        dataset,
        recipe,
        device=device,
        progress=progress,
        attack=inner_ascent,
        teacher=teacher,
    )
    encoder.to("cpu").eval()
    model = encoder
    if dataset.labeled and recipe.labels > 0.0:  # no label that the losses may not see
        rows = label_subset(
            dataset.labels, recipe.labels, num_classes=dataset.num_classes, seed=recipe.label_seed
        )
        noise = recipe.method.sigma if isinstance(recipe.method, NoisyViews) else 0.0
        model = fit_head(encoder, dataset.select(rows), noise=noise, seed=recipe.seed)
    if out is not None:
        save(out, model, arch=name, arguments=arguments)
    return model


def load(path: str | Path, *, arch: str | None = None) -> Classifier | Encoder:
    """Load a model: a checkpoint, a weight file, the folder of a model, or FILE.py:factory.

    Args:
        path: Where it is, see `robustcl.models.sources`.
        arch: Architecture of a weight file; of a checkpoint that code of the user built, where that
            code is, unless it was approved before.

    Returns:
        The classifier in eval mode, or the encoder where there is no head.

    Raises:
        CheckpointError: When it cannot be loaded (see `open_model`).
    """
    found = open_model(path, ModelRequest(arch=arch))
    return found.encoder if found.classifier is None else found.classifier


def save(
    path: str | Path,
    model: Classifier | Encoder,
    *,
    arch: str,
    arguments: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint that `load` and every command read.

    Args:
        path: The file, ending in .safetensors.
        model: A classifier with a prototype, linear or kNN head, or an encoder.
        arch: What builds its backbone: an encoder of this package, torchvision:NAME, timm:NAME, or
            package.module:factory.
        arguments: Keyword arguments of that.

    Raises:
        CheckpointError: When the name ends otherwise, or the head cannot be saved.
    """
    encoder = model.encoder if isinstance(model, Classifier) else model
    shape = encoder.image_shape
    described = Description(
        architecture=arch,
        arguments=dict(arguments or {}),
        image_shape=shape,
        mean=tuple(encoder.mean.flatten().tolist()),
        std=tuple(encoder.std.flatten().tolist()),
        embedding_size=embedding_size(encoder.backbone, shape),
    )
    save_checkpoint(Path(path), model, described)


def _check_new(place: Path) -> None:
    if place.suffix != ".safetensors":
        raise InputError(f"{str(place)!r} does not end in .safetensors; name it so")
    if place.exists():
        raise InputError(f"{str(place)!r} exists; give another name, or remove it first")
