"""Bring in the encoder or classifier of another program."""

import json
from dataclasses import asdict, replace
from functools import partial

from robustcl.core.errors import CheckpointError, InputError
from robustcl.core.terminal import answer, emit, printable, say
from robustcl.models.checkpoint import Loaded, read_description, save_checkpoint
from robustcl.models.reference import Reference, compare_logits, read_reference
from robustcl.models.sources.opening import open_model
from robustcl.models.sources.request import ModelRequest
from robustcl.models.sources.weight_file import open_weight_file
from robustcl.models.weights.reading import is_checkpoint
from robustcl.options.convert import ConvertOptions
from robustcl.workflows.models import approve_again, model_request
from robustcl.workflows.outputs import check_checkpoint


def convert(options: ConvertOptions) -> int:
    """Run `robustcl convert`.

    Args:
        options: The options.

    Returns:
        The exit code.

    Raises:
        InputError: When the head asked for is not the network's own.
    """
    if options.head not in (None, "native"):
        raise InputError(
            f"--head {options.head}; convert takes over --head native only, and robustcl probe "
            "fits others"
        )
    check_checkpoint(options.out, overwrite=options.overwrite, inputs=(options.weights,))
    request = replace(model_request(options), allow_partial=options.allow_partial)
    if request.own_head is None:
        request = replace(request, own_head=False)
    if is_checkpoint(options.weights):
        loaded = open_weight_file(options.weights, _of_checkpoint(options, request))
    else:
        loaded = open_model(options.weights, request)
    model = loaded.encoder if loaded.classifier is None else loaded.classifier
    if options.reference is not None:
        _compare(loaded, options.reference)
    save_checkpoint(options.out, model, loaded.description)
    approve_again(loaded, options.out)
    for note in loaded.notes:
        say(f"warning: {note}")
    tell = partial(answer, json=options.json)
    for fact in loaded.facts:
        tell(fact)
    tell(f"embedding size {loaded.description.embedding_size}; checkpoint: {options.out}")
    placement = loaded.placement
    if placement is not None:
        for key, name in placement.rules.items() if options.show_rules else ():
            tell(f"{printable(key)} -> {printable(name)}")
        for what in ("converted", "unplaced", "missing"):
            for key in getattr(placement, what):
                tell(f"{what}: {printable(key)}")
    if options.json:
        emit({
            **(asdict(placement) if placement is not None else {}),
            "placed": placement.placed if placement is not None else None,
            "embedding_size": loaded.description.embedding_size,
            "checkpoint": str(options.out),
            "facts": loaded.facts,
            "warnings": loaded.notes,
        })  # fmt: skip
    return 0


def _compare(loaded: Loaded, text: str) -> None:
    known = read_reference(text)
    if loaded.classifier is None or isinstance(known, Reference):
        raise InputError(
            f"--reference {text!r}: give a .npz file of images and logits, and --head native; an "
            "accuracy is compared by certify run"
        )
    say(f"reference: {compare_logits(loaded.classifier, *known)}")


def _of_checkpoint(options: ConvertOptions, request: ModelRequest) -> ModelRequest:
    # The encoder of a checkpoint of robustcl is that of its own architecture.
    own, _ = read_description(options.weights)
    asked = (request.arch or own.architecture, request.arguments or own.arguments)
    if (own.architecture, own.arguments) != asked:
        raise CheckpointError(
            f"{str(options.weights)!r} is a checkpoint of {own.architecture!r} with --arguments "
            f"'{json.dumps(own.arguments)}', not {asked[0]!r} with '{json.dumps(asked[1])}'; leave "
            "both out"
        )
    return replace(
        request,
        arch=own.architecture,
        arguments=own.arguments,
        image_shape=request.image_shape or own.image_shape,
        network="encoder.backbone",
    )
