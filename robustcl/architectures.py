"""Build a backbone from its name."""

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from robustcl.encoders import ARCHITECTURES
from robustcl.errors import InputError

CLASSIFICATION_LAYERS = ("fc", "classifier", "heads", "head")
# Arguments by which timm and torchvision would read or download other files.
READING = ("weights", "pretrained", "checkpoint", "cache_dir", "url")


def is_factory(architecture: str) -> bool:
    """Tell whether a name is `package.module:factory`, whose code must be trusted by the caller.

    Args:
        architecture: The name.

    Returns:
        False for registered, torchvision and timm names.
    """
    return ":" in architecture and architecture.split(":")[0] not in ("torchvision", "timm")


def build_backbone(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a network that maps normalized images to features.

    torchvision's and timm's classification layer is replaced by the identity.

    Args:
        architecture: A name in `ARCHITECTURES`, `torchvision:NAME`, `timm:NAME` (or
            `timm:NAME.TAG`, whose configuration is that of those weights), or
            `package.module:factory`, which imports and runs that code: pass on only what the
            caller has typed, never what a file says.
        arguments: Keyword arguments.

    Returns:
        The network with fresh weights.

    Raises:
        InputError: When the name is unknown or the arguments do not fit.
    """
    source, _, name = architecture.partition(":")
    reads = [key for key in arguments if any(key.startswith(word) for word in READING)]
    if reads and not is_factory(architecture):
        raise InputError(
            f"argument {reads[0]!r} of {architecture!r} reads other files; leave it out"
        )
    try:
        if architecture in ARCHITECTURES:
            return ARCHITECTURES[architecture](**arguments)
        if source == "torchvision" and name:
            return _torchvision(name, arguments)
        if source == "timm" and name:
            return _timm(name, arguments)
        if name:
            network = getattr(importlib.import_module(source), name)(**arguments)
            if isinstance(network, nn.Module):
                return network
            raise InputError(f"{architecture!r} gives a {type(network).__name__}, not a nn.Module")
    except (TypeError, AttributeError, ModuleNotFoundError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"architecture {architecture!r} cannot be built ({reason}); a module in this folder is "
            "found with PYTHONPATH=."
        ) from error
    known = ", ".join(sorted(ARCHITECTURES))
    raise InputError(
        f"unknown architecture {architecture!r}; use {known}, torchvision:NAME, timm:NAME or "
        "package.module:factory"
    )


def embedding_size(backbone: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Return d, by sending one gray image through the network.

    Args:
        backbone: The network.
        image_shape: (C, H, W).

    Returns:
        d.

    Raises:
        InputError: When the network does not take such images, or its output is not (B, d).
    """
    try:
        with torch.no_grad():
            output = backbone.eval()(torch.zeros(2, *image_shape))
    except RuntimeError as error:
        raise InputError(f"the network does not take images of {image_shape}: {error}") from error
    if output.ndim != 2:
        raise InputError(f"the network gives {tuple(output.shape)} for 2 images, not (2, d)")
    return int(output.shape[1])


def _torchvision(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    from torchvision import models

    if name not in models.list_models(models):
        raise InputError(f"torchvision has no classification model {name!r}; try resnet18")
    network = models.get_model(name, weights=None, **arguments)
    children = dict(network.named_children())
    layer = next((name for name in CLASSIFICATION_LAYERS if name in children), None)
    if layer is None:
        raise InputError(f"torchvision's {name!r} has no classification layer to take off")
    setattr(network, layer, nn.Identity())
    return network


def _timm(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        import timm  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError('timm:NAME needs timm; pip install "robustcl[timm]"') from error
    plain, _, tag = name.partition(".")
    if plain not in timm.list_models():
        raise InputError(f"timm has no model {plain!r}; see timm.list_models()")
    tags = timm.models.get_arch_pretrained_cfgs(plain)
    if tag and name not in tags:
        raise InputError(
            f"timm's {plain!r} has no weights {tag!r}; use {', '.join(sorted(tags)) or 'no tag'}"
        )
    return timm.create_model(name, pretrained=False, num_classes=0, **arguments)
