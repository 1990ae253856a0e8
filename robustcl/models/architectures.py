"""Build a backbone from its name."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustcl.core.errors import InputError
from robustcl.core.memory import is_out_of_memory
from robustcl.models.encoders import ARCHITECTURES
from robustcl.models.factory import Factory, call_factory, find_factory
from robustcl.models.hub_networks import HUBS, open_clip_network, transformers_network

LIBRARIES = ("torchvision", "timm", *HUBS)
CLASSIFICATION_LAYERS = ("fc", "classifier", "heads", "head")
# Arguments by which timm and torchvision would read or download other files.
READING = ("weights", "pretrained", "checkpoint", "cache_dir", "url")
MOST_VALUES = 2**26  # of an image, C x H x W
REASON = 300  # signs of an error of other code
USUAL = (TypeError, AttributeError, ModuleNotFoundError, RuntimeError)


def is_factory(architecture: str) -> bool:
    """Tell whether a name is that of code of the user, which is run on the user's word only.

    Args:
        architecture: The name.

    Returns:
        False for registered names and those of libraries.
    """
    return ":" in architecture and architecture.split(":")[0] not in LIBRARIES


def build_backbone(
    architecture: str | Factory,
    arguments: Mapping[str, Any],
    *,
    whole: bool = False,
    layer: str = "",
) -> nn.Module:
    """Build a network that maps normalized images to features.

    torchvision's and timm's classification layer is replaced by the identity.

    Args:
        architecture: A name in `ARCHITECTURES`, `torchvision:NAME`, `timm:NAME` (or
            `timm:NAME.TAG`, whose configuration is that of those weights), or code of the user:
            `FILE.py:factory`, `package.module:factory` or a `Factory`. It is run: pass on only what
            the user has typed or approved, never what a file says.
        arguments: Keyword arguments.
        whole: Whether torchvision's and timm's networks keep their classification layer.
        layer: A linear layer of the whole network that is replaced by the identity; '' for none.

    Returns:
        The network with fresh weights.

    Raises:
        InputError: When the name is unknown or the arguments do not fit.
    """
    if isinstance(architecture, Factory) or is_factory(architecture):
        code = architecture if isinstance(architecture, Factory) else find_factory(architecture)
        network = call_factory(code, arguments)
    else:
        network = _named_network(architecture, arguments, whole=whole)
    if layer:
        take_off(network, layer)
    return network


def take_off(network: nn.Module, layer: str) -> nn.Linear:
    """Replace a linear layer by the identity.

    Args:
        network: The network; changed in place.
        layer: The layer's name.

    Returns:
        The layer.

    Raises:
        InputError: When there is no such linear layer.
    """
    parent, _, name = layer.rpartition(".")
    try:
        owner = network.get_submodule(parent)
        found = owner.get_submodule(name)
    except AttributeError:
        found, owner = None, network
    if not isinstance(found, nn.Linear):
        raise InputError(f"{layer[:80]!r} is no linear layer of a {type(network).__name__}")
    owner.register_module(name, nn.Identity())
    return found


def _named_network(architecture: str, arguments: Mapping[str, Any], *, whole: bool) -> nn.Module:
    source, _, name = architecture.partition(":")
    reads = [key for key in arguments if any(key.startswith(word) for word in READING)]
    if reads:
        raise InputError(
            f"argument {reads[0]!r} of {architecture!r} reads other files; leave it out"
        )
    known = ", ".join(sorted(ARCHITECTURES))
    if architecture not in ARCHITECTURES and not (source and name):
        raise InputError(
            f"unknown architecture {architecture!r}; use {known}, torchvision:NAME, timm:NAME or "
            "FILE.py:factory"
        )
    try:
        if architecture in ARCHITECTURES:
            return ARCHITECTURES[architecture](**arguments)
        if source == "torchvision":
            return _torchvision(name, arguments, whole=whole)
        if source == "timm":
            return _timm(name, arguments, whole=whole)
        if source == "transformers":
            return transformers_network(name, arguments)
        if source == "open_clip":
            return open_clip_network(name, arguments)
        raise InputError(f"unknown architecture {architecture!r}; use {known}")
    except InputError:
        raise
    except Exception as error:  # of a library's code
        if is_out_of_memory(error):
            raise
        raise InputError(_unbuilt(architecture, error)) from error


def _unbuilt(architecture: str, error: BaseException) -> str:
    reason = " ".join(str(error).split())[:REASON]
    what = reason if isinstance(error, USUAL) else f"{type(error).__name__}: {reason}"
    return f"architecture {architecture!r} cannot be built ({what})"


def check_image_size(image_shape: Sequence[int]) -> None:
    """Refuse images that no network here is made for, before one is allocated.

    Args:
        image_shape: (C, H, W).

    Raises:
        InputError: When a side is below 1, or an image has too many values.
    """
    if min(image_shape) < 1:
        raise InputError(f"image_shape {tuple(image_shape)} has a side below 1")
    if math.prod(image_shape) > MOST_VALUES:
        raise InputError(
            f"image_shape {tuple(image_shape)} has more than {MOST_VALUES:,} values; use smaller "
            "images"
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
    check_image_size(image_shape)
    try:
        with torch.no_grad():
            output = backbone.eval()(torch.zeros(2, *image_shape))
    except Exception as error:  # of the network's own code
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:REASON]
        raise InputError(f"the network does not take images of {image_shape}: {reason}") from error
    if not isinstance(output, Tensor):
        raise InputError(f"the network gives a {type(output).__name__} for 2 images, not (2, d)")
    if output.ndim != 2:
        raise InputError(f"the network gives {tuple(output.shape)} for 2 images, not (2, d)")
    return int(output.shape[1])


def _torchvision(name: str, arguments: Mapping[str, Any], *, whole: bool) -> nn.Module:
    from torchvision import models

    if name not in models.list_models(models):
        raise InputError(f"torchvision has no classification model {name!r}; try resnet18")
    network = models.get_model(name, weights=None, **arguments)
    if whole:
        return network
    children = dict(network.named_children())
    layer = next((name for name in CLASSIFICATION_LAYERS if name in children), None)
    if layer is None:
        raise InputError(f"torchvision's {name!r} has no classification layer to take off")
    setattr(network, layer, nn.Identity())
    return network


def _timm(name: str, arguments: Mapping[str, Any], *, whole: bool) -> nn.Module:
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
    given = arguments if whole else {**arguments, "num_classes": 0}
    return timm.create_model(name, pretrained=False, **given)
