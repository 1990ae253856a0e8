"""Bring in a stranger's encoder."""

import json as json_text
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from robustcl import __version__
from robustcl import convert as conversion
from robustcl.architectures import build_backbone, embedding_size
from robustcl.checkpoint import Description, save_checkpoint
from robustcl.classifier import Encoder
from robustcl.commands.options import answer, emit, refuse_existing
from robustcl.errors import InputError
from robustcl.specification import parse_number


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Make a checkpoint from a weight file (.safetensors, or .pt/.pth without code).

    Args:
        weights: The weight file; prefixes such as module., backbone., encoder. are stripped.
        arch: torchvision:NAME, timm:NAME, cifar_resnet18, small_convnet, strided_convnet, or
            package.module:factory, whose code is run.
        out: The checkpoint, ending in .safetensors.
        arguments: Keyword arguments of the architecture, as JSON.
        input_size: Side in pixels, or CxHxW.
        mean: Channel means of the network's input normalization, as in .485,.456,.406.
        std: Channel standard deviations.
        allow_partial: Go on where tensors are missing or left over.
        overwrite: Replace an existing checkpoint.
        json: Write one JSON object on stdout.
    """

    weights: tyro.conf.Positional[Path]
    arch: str
    out: Path
    arguments: str = "{}"
    input_size: str = "224"
    mean: str = "0"
    std: str = "1"
    allow_partial: bool = False
    overwrite: bool = False
    json: bool = False


def convert(options: ConvertOptions) -> int:
    """Run `robustcl convert`.

    Args:
        options: The options.

    Returns:
        The exit code.
    """
    refuse_existing(options.out, overwrite=options.overwrite)
    shape = parse_size(options.input_size)
    mean, std = (
        tuple(parse_number(part) for part in text.split(","))
        for text in (options.mean, options.std)
    )
    weights = conversion.read_weights(options.weights)
    arguments = read_arguments(options.arguments)
    network = build_backbone(options.arch, arguments)
    placement = conversion.place_weights(network, weights, allow_partial=options.allow_partial)
    size = embedding_size(network, shape)
    encoder = Encoder(network, image_shape=shape, mean=mean, std=std)
    description = Description(
        architecture=options.arch,
        arguments=arguments,
        image_shape=shape,
        mean=tuple(mean),
        std=tuple(std),
        embedding_size=size,
        recipe={"converted_from": options.weights.name},
        version=__version__,
    )
    save_checkpoint(options.out, encoder, description)
    tell = partial(answer, json=options.json)
    tell(f"placed {placement.placed} tensors; embedding size {size}; checkpoint: {options.out}")
    for what in ("dropped", "unplaced", "missing"):
        for key in getattr(placement, what):
            tell(f"{what}: {key}")
    if options.json:
        emit({**asdict(placement), "embedding_size": size, "checkpoint": str(options.out)})
    return 0


def read_arguments(text: str) -> dict[str, Any]:
    """Read keyword arguments in JSON.

    Args:
        text: An object such as {"channels": 1}.

    Returns:
        The arguments.

    Raises:
        InputError: When the text is no JSON object.
    """
    try:
        found = json_text.loads(text)
    except json_text.JSONDecodeError as error:
        raise InputError(f"--arguments {text!r} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f'--arguments {text!r} is no object; write {{"channels": 1}}')
    return found


def parse_size(text: str) -> tuple[int, int, int]:
    """Read 224 or 3x224x224.

    Args:
        text: The size.

    Returns:
        (C, H, W).

    Raises:
        InputError: When the text is neither.
    """
    parts = text.lower().split("x")
    if not all(part.isdigit() and int(part) > 0 for part in parts) or len(parts) not in (1, 3):
        raise InputError(f"cannot read --input-size {text!r}; write 224 or 3x224x224")
    numbers = [int(part) for part in parts]
    return (
        (3, numbers[0], numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])
    )
