"""Save and load an encoder with its head: one safetensors file, never a pickle."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustcl.architectures import build_backbone, is_factory
from robustcl.check_network import weight_type
from robustcl.check_tensors import objection_to_numbers, short
from robustcl.classifier import Classifier, Encoder
from robustcl.errors import CheckpointError, InputError
from robustcl.robust.dual_batch_norm import BRANCHES
from robustcl.stored_file import Stored, read_stored, write_stored
from robustcl.stored_head import build_head, describe_head

DUAL = ("acl", "dynacl")  # trained with two BatchNorm branches
ROUNDING = 2.0**-7  # a mean in bfloat16, as an encoder has that was converted and converted back
KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Description:
    """Describe a checkpoint in full; it lies in the file's metadata.

    Args:
        architecture: See `build_backbone`.
        arguments: Its keyword arguments.
        image_shape: (C, H, W).
        mean: Channel means of the input normalization.
        std: Channel standard deviations.
        embedding_size: d.
        head: 'prototype', 'linear', 'knn', or None.
        head_arguments: Numbers the head needs besides its tensors.
        class_names: K names, or none without a head.
        recipe: How it was trained.
        version: Version of robustcl that wrote it.
        lipschitz_constant: What the maker claims of the raw embedding in L2, in pixel units; None
            for nothing. Certificates compute their own, and commands refuse a claim below it.
        normalization: Where mean and std of a converted encoder come from, as in 'stated' or
            'assumed'; '' where it was trained here, or converted by an earlier version.
    """

    architecture: str
    arguments: dict[str, Any]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    embedding_size: int = 0
    head: str | None = None
    head_arguments: dict[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    lipschitz_constant: float | None = None
    normalization: str = ""


@dataclass(frozen=True, eq=False)
class Loaded:
    """Hold what a checkpoint gave.

    Args:
        encoder: The encoder, in eval mode.
        classifier: The classifier; None where the checkpoint has no head.
        description: Its description.
        hash: SHA-256 of the file.
        notes: What could not be checked, a sentence each, for commands to print.
    """

    encoder: Encoder
    classifier: Classifier | None
    description: Description
    hash: str
    notes: tuple[str, ...] = ()


def save_checkpoint(path: Path, model: Encoder | Classifier, description: Description) -> None:
    """Write a checkpoint with a checksum; the file is either the old one or the new one.

    Args:
        path: The file, ending in .safetensors.
        model: An encoder, or a classifier with its head.
        description: What `load_checkpoint` needs; head and class names are taken from the model.

    Raises:
        CheckpointError: When the name ends otherwise.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{str(path)!r} does not end in .safetensors; name it so")
    entries = asdict(description)
    encoder = model.encoder if isinstance(model, Classifier) else model
    tensors = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    entries |= {"head": None, "head_arguments": {}, "class_names": ()}
    if isinstance(model, Classifier):
        entries["head"], entries["head_arguments"] = describe_head(model.head)
        entries["class_names"] = model.class_names
        tensors |= {f"head.{name}": value for name, value in model.head.state_dict().items()}
    write_stored(path, entries, tensors)


@torch.inference_mode(False)
def load_checkpoint(path: str | Path, *, arch: str | None = None) -> Loaded:
    """Read a checkpoint. Nothing is unpickled, and no code named in the file is run.

    Args:
        path: The file.
        arch: For an architecture of the kind `package.module:factory`, the same name typed by the
            caller.

    Returns:
        The encoder, the classifier where there is a head, and the description.

    Raises:
        CheckpointError: When the file is missing, damaged, a pickle, foreign, of another
            architecture, or holds values that are not finite or of another type.
    """
    place = Path(path)
    stored = read_stored(place)
    tensors, description = stored.tensors, _description(stored, place)
    if is_factory(description.architecture) and arch != description.architecture:
        raise CheckpointError(
            f"{str(place)!r} was made by the code {description.architecture!r}, which is not run "
            f"on a file's word; add --arch {description.architecture} if you trust it"
        )
    if arch is not None and arch != description.architecture:
        raise CheckpointError(
            f"{str(place)!r} holds {description.architecture!r}, not {arch!r}; leave out --arch"
        )
    for name, value in tensors.items():
        objection = objection_to_numbers(value, name)
        if objection:
            raise CheckpointError(f"{name!r} in {str(place)!r} {objection}; train or convert again")
    _check_branch(tensors, description, place)
    encoder = _encoder(description, _under(tensors, "encoder."), place)
    classifier = None
    if description.head is not None:
        head = _head(description, _under(tensors, "head."), place)
        classifier = Classifier(encoder, head, class_names=description.class_names).eval()
    return Loaded(encoder, classifier, description, stored.hash, _notes(stored, place))


def own_accuracy(description: Description) -> float | None:
    """Say how often the head was right where it was fitted.

    Args:
        description: Of the checkpoint.

    Returns:
        The accuracy on held-out images as `robustcl probe` noted it, else that on the training
        images as `robustcl train` noted it; None where neither did.
    """
    probe = description.recipe.get("probe")
    held = probe.get("held_out") if isinstance(probe, Mapping) else None
    trained = description.recipe.get("head")
    for noted, key in ((held, "accuracy"), (trained, "train_accuracy")):
        value = noted.get(key) if isinstance(noted, Mapping) else None
        if isinstance(value, int | float) and 0.0 <= value <= 1.0:
            return float(value)
    return None


def read_description(path: str | Path) -> tuple[Description, dict[str, Tensor]]:
    """Read the description and the tensors without building a network.

    Args:
        path: The file.

    Returns:
        The description and the tensors by name.
    """
    description, tensors, _ = describe_file(path)
    return description, tensors


def describe_file(path: str | Path) -> tuple[Description, dict[str, Tensor], tuple[str, ...]]:
    """Read the description, the tensors and what could not be checked, and build no network.

    Args:
        path: The file.

    Returns:
        The description, the tensors by name, and notes as in `Loaded`.
    """
    place = Path(path)
    stored = read_stored(place)
    return _description(stored, place), stored.tensors, _notes(stored, place)


def _notes(stored: Stored, place: Path) -> tuple[str, ...]:
    if stored.verified:
        return ()
    return (
        f"{str(place)!r} was written by an earlier version and has no checksum: damage to its "
        "numbers cannot be found",
    )


def _description(stored: Stored, place: Path) -> Description:
    known = {entry.name for entry in fields(Description)}
    values = {key: value for key, value in stored.entries.items() if key in known}
    try:
        for key in ("image_shape", "mean", "std", "class_names"):
            values[key] = tuple(values[key])
        return Description(**values)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{str(place)!r} has an unreadable description ({error})") from error


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): value for k, value in tensors.items() if k.startswith(prefix)}


def _encoder(description: Description, tensors: dict[str, Tensor], place: Path) -> Encoder:
    # In the type that it was saved in, so that no number is rounded.
    backbone = build_backbone(description.architecture, description.arguments)
    given = tensors.get("mean")
    kind = given.dtype if given is not None else None
    if kind in KINDS and weight_type(backbone) not in (None, kind):
        backbone.to(kind)
    encoder = Encoder(
        backbone,
        image_shape=description.image_shape,
        mean=description.mean,
        std=description.std,
    )
    stated = {"mean": encoder.mean.clone(), "std": encoder.std.clone()}
    _fill(encoder, tensors, place, description.architecture)
    for name, value in stated.items():
        if not torch.allclose(value, getattr(encoder, name), rtol=ROUNDING, atol=0.0):
            raise CheckpointError(
                f"{str(place)!r} states {name} {value.flatten().tolist()} but holds "
                f"{getattr(encoder, name).flatten().tolist()}; convert or train it again"
            )
    return encoder.eval()


def _fill(module: nn.Module, tensors: dict[str, Tensor], place: Path, what: str) -> None:
    wanted, found = _forms(module.state_dict()), _forms(tensors)
    wrong = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
    if wrong:
        first = "; ".join(f"{n}: {found.get(n)} for {wanted.get(n)}" for n in wrong[:3])
        raise CheckpointError(
            f"{str(place)!r} does not hold a {what}: {len(wrong)} tensors differ ({first}); "
            "use the checkpoint of that architecture"
        )
    module.load_state_dict(tensors)


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{short(t.dtype)} {tuple(t.shape)}" for name, t in tensors.items()}


def _check_branch(tensors: dict[str, Tensor], description: Description, place: Path) -> None:
    # What was trained on two sets of BatchNorm statistics is evaluated with one that is named.
    robust = str(description.recipe.get("robust", ""))
    both = any(name.endswith(".adversarial.running_mean") for name in tensors)
    kept = description.recipe.get("batch_norm")
    if both or (robust.partition(":")[0] in DUAL and kept not in BRANCHES):
        found = "both BatchNorm branches" if both else f"batch_norm {kept!r}"
        raise CheckpointError(
            f"{str(place)!r} was trained by {robust or 'two branches'!r} and states {found}, so it "
            "is not known which statistics its figures are about; save the adversarial branch "
            "(join_batch_norm) with recipe batch_norm='adversarial'"
        )


def _head(description: Description, tensors: dict[str, Tensor], place: Path) -> nn.Module:
    name = str(description.head)
    try:
        head = build_head(name, description.head_arguments, tensors)
    except InputError as error:
        raise CheckpointError(
            f"{str(place)!r} has an unusable head ({error}); probe it again"
        ) from error
    sizes = {value.shape[1] for value in tensors.values() if value.ndim == 2}
    if description.embedding_size and sizes != {description.embedding_size}:
        raise CheckpointError(
            f"{str(place)!r} has a head for embeddings of size {sizes} on an encoder of size "
            f"{description.embedding_size}; probe it again"
        )
    kinds = {value.dtype for value in tensors.values() if value.is_floating_point()}
    if len(kinds) == 1 and kinds <= set(KINDS):
        head.to(kinds.pop())
    _fill(head, tensors, place, f"{name} head")  # as stored, prototypes not normalized once more
    return head
