"""Open a model that the user's own code builds, weights and all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustcl import __version__
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import CheckpointError, InputError
from robustcl.models.architectures import embedding_size
from robustcl.models.checkpoint import Loaded, hash_of
from robustcl.models.description import Description
from robustcl.models.factory import call_factory, find_factory
from robustcl.models.own_head import own_classifier
from robustcl.models.sources.preprocessing import of_timm
from robustcl.models.sources.request import ModelRequest


def open_code(text: str, request: ModelRequest) -> Loaded:
    """Run code that the user has typed, and take what it returns as the model.

    Args:
        text: 'FILE.py:factory' or 'package.module:factory'; the factory returns a network with its
            weights, or a `Classifier` or `Encoder` of robustcl.
        request: What the user says about it; the size of its images must be known from there, from
            the network's `image_shape`, or from the configuration that timm keeps with it.

    Returns:
        The classifier; without its head where `request.own_head` is false.

    Raises:
        CheckpointError: When the size of its images is not known.
        InputError: When the code fails, or the model is not usable.
    """
    request.refuse_beside(f"{text!r} is code that builds the model", but=(
        "arguments", "image_shape", "normalization", "class_names"))  # fmt: skip
    factory = find_factory(text)
    model = call_factory(factory, request.arguments).eval()
    facts = [f"model: what {factory.name!r} of {Path(factory.file).name!r} returns"]
    classifier, layer, transform = None, "", None
    source = "stated"
    if isinstance(model, Classifier | Encoder):
        encoder = model.encoder if isinstance(model, Classifier) else model
        classifier = model if isinstance(model, Classifier) else None
        source = "the code's own"
    else:
        own = _known(model)
        shape = request.image_shape or (own.image_shape if own else _stated_shape(model))
        if shape is None:
            raise CheckpointError(
                f"the size of the images that {text!r} takes is not known; state --input-size "
                "CxHxW, and --mean and --std where it does not normalize them itself"
            )
        pair = request.normalization or ((own.mean, own.std) if own else ((0.0,), (1.0,)))
        if request.normalization is None:
            source = own.source if own else "assumed, as the code's own network normalizes"
        transform = own.transform if own and shape == own.image_shape else None
        embedding_size(model, shape)
        encoder = Encoder(model, image_shape=shape, mean=pair[0], std=pair[1]).eval()
        if request.own_head is not False:
            classifier, layer = own_classifier(encoder, request.class_names)
    if request.own_head is False:
        classifier, layer = None, ""
    with torch.no_grad():
        size = encoder(encoder.mean.new_full((1, *encoder.image_shape), 0.5)).shape[1]
    mean, std = (tuple(row.flatten().tolist()) for row in (encoder.mean, encoder.std))
    description = Description(
        architecture=factory.architecture,
        arguments=request.arguments,
        image_shape=encoder.image_shape,
        mean=mean,
        std=std,
        embedding_size=size,
        version=__version__,
        normalization=source,
        head_layer=layer,
        transform=transform,
    )
    numbers = (",".join(f"{n:g}" for n in row) for row in (mean, std))
    text = "mean {}, std {}".format(*numbers)
    facts.append(f"input: {'x'.join(map(str, encoder.image_shape))}, {text} ({source})")
    if classifier is not None:
        facts.append(f"head: {classifier.num_classes} classes")
    digest = hash_of(encoder if classifier is None else classifier, description)
    return Loaded(
        encoder, classifier, description, digest, (), tuple(facts),
        factory=factory,
    )  # fmt: skip


def _known(model: nn.Module) -> Any:
    for name in ("pretrained_cfg", "default_cfg"):
        own = getattr(model, name, None)
        if isinstance(own, Mapping) and own.get("input_size") and own.get("mean"):
            return of_timm(own, f"the model's {name}")
    return None


def _stated_shape(model: nn.Module) -> tuple[int, int, int] | None:
    stated = getattr(model, "image_shape", None)
    if isinstance(stated, tuple | list) and len(stated) == 3:
        try:
            channels, high, wide = (int(side) for side in stated)
        except (TypeError, ValueError) as error:
            raise InputError(f"the model's image_shape {stated!r} is not (C, H, W)") from error
        return channels, high, wide
    return None
