"""Bring in a external model's encoder."""

import json as json_text
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from torch import Tensor, nn

from robustcl import __version__
from robustcl.core.classifier import Encoder
from robustcl.core.errors import CheckpointError, InputError
from robustcl.core.files import parse_json
from robustcl.core.schema import objection_to_values
from robustcl.core.terminal import answer, emit, printable, say
from robustcl.models import importing as conversion
from robustcl.models.architectures import build_backbone, check_image_size, embedding_size
from robustcl.models.checkpoint import read_description, save_checkpoint
from robustcl.models.description import Description
from robustcl.models.importing import ask_about_stem, timm_twins
from robustcl.models.normalization import (
    Normalization,
    Pair,
    assumed,
    in_weights,
    of_architecture,
    stated_normalization,
)
from robustcl.models.outline import outline
from robustcl.models.weight_file import is_checkpoint, read_weights
from robustcl.options.convert import ConvertOptions
from robustcl.workflows.outputs import check_checkpoint

SIDE = re.compile(r"[1-9][0-9]{0,8}")


def convert(options: ConvertOptions) -> int:
    """Run `robustcl convert`.

    Args:
        options: The options.

    Returns:
        The exit code.

    Raises:
        CheckpointError: When the weights are not those of the architecture.
    """
    check_checkpoint(options.out, overwrite=options.overwrite, inputs=(options.weights,))
    shape = parse_size(options.input_size)
    given = stated_normalization(options.mean, options.std, channels=shape[0])
    weights = read_weights(options.weights)
    arguments = read_arguments(options.arguments)
    outline(options.arch, arguments, weights)  # before numbers are allocated
    network = build_backbone(options.arch, arguments)
    warnings = _look_alikes(options, arguments, weights)
    try:
        normalization, known = _normalization(options, network, weights, given, shape[0])
        placement = conversion.place_weights(
            network, weights, allow_partial=options.allow_partial, known=known
        )
    except CheckpointError as error:
        raise CheckpointError(f"{str(options.weights)!r}: {error}") from error
    size = embedding_size(network, shape)
    encoder = Encoder(network, image_shape=shape, mean=normalization.mean, std=normalization.std)
    origin = {"converted_from": options.weights.name}
    untrained = {"missing": list(placement.missing)} if placement.missing else {}
    description = Description(
        architecture=options.arch,
        arguments=arguments,
        image_shape=shape,
        mean=normalization.mean,
        std=normalization.std,
        embedding_size=size,
        recipe={**origin, **untrained},
        version=__version__,
        normalization=normalization.source,
    )
    save_checkpoint(options.out, encoder, description)
    for warning in (*warnings, *normalization.warnings):
        say(f"warning: {warning}")
    tell = partial(answer, json=options.json)
    tell(f"placed {placement.placed} tensors; embedding size {size}; checkpoint: {options.out}")
    tell(f"normalization ({normalization.source}): {_text(normalization.mean, normalization.std)}")
    for what in ("converted", "dropped", "unplaced", "missing"):
        for key in getattr(placement, what):
            tell(f"{what}: {printable(key)}")
    if options.json:
        facts = {"normalization": asdict(normalization), "warnings": warnings}
        where = {"embedding_size": size, "checkpoint": str(options.out)}
        emit({**asdict(placement), **where, **facts})
    return 0


def _look_alikes(
    options: ConvertOptions, arguments: dict[str, Any], weights: Mapping[str, Tensor]
) -> tuple[str, ...]:
    if not is_checkpoint(options.weights):
        asked = ask_about_stem(options.arch, arguments, weights)
        return (*asked, *timm_twins(options.arch))
    own, _ = read_description(options.weights)
    if (own.architecture, own.arguments) != (options.arch, arguments):
        raise CheckpointError(
            f"{str(options.weights)!r} is a checkpoint of {own.architecture!r} with --arguments "
            f"'{json_text.dumps(own.arguments)}', not {options.arch!r} with "
            f"'{json_text.dumps(arguments)}'; give its own"
        )
    return ()


def _normalization(
    options: ConvertOptions,
    network: nn.Module,
    weights: Mapping[str, Tensor],
    given: Pair | None,
    channels: int,
) -> tuple[Normalization, list[str]]:
    # What is stated, else what the weight file holds, else what is known of the architecture.
    keys = {name: key for key, name in conversion.named_weights(network, weights).items()}
    inside = network.state_dict()
    rest = {name: weights[key] for name, key in keys.items() if name not in inside}
    stored = in_weights(rest, channels=channels)
    known = [keys[name] for name in stored[1]] if stored else []
    if given is not None:
        warnings = ()
        if stored and Normalization(*stored[0], "").differs(*given, channels=channels):
            warnings = (f"the weight file itself states {_text(*stored[0])}, which is left aside",)
        return Normalization(*given, "stated", warnings), known
    if stored:
        return Normalization(*stored[0], f"weight file, {' and '.join(known)}"), known
    found = of_architecture(options.arch, network, options.weights, channels=channels)
    return found or assumed(), known


def _text(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    rows = (",".join(f"{number:g}" for number in row) for row in (mean, std))
    return "mean {}, std {}".format(*rows)


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
        found = parse_json(text)
    except ValueError as error:
        raise InputError(f"--arguments {text[:200]!r} {error}") from error
    if not isinstance(found, dict):
        raise InputError(f'--arguments {text[:200]!r} is no object; write {{"channels": 1}}')
    wrong = objection_to_values(found)
    if wrong:
        raise InputError(f'--arguments: {printable(wrong)}; write {{"channels": 1}}')
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
    right = all(SIDE.fullmatch(part) for part in parts) and len(parts) in (1, 3)
    if not right:
        raise InputError(f"cannot read --input-size {text[:200]!r}; write 224 or 3x224x224")
    numbers = [int(part) for part in parts]
    shape = (
        (3, numbers[0], numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])
    )
    check_image_size(shape)
    return shape
