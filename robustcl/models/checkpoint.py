"""Save and load an encoder with its head: one safetensors file, never a pickle."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustcl.core.checks import objection_to_numbers, short, weight_type
from robustcl.core.classifier import Classifier, Encoder, IdentityHead
from robustcl.core.errors import CheckpointError, InputError
from robustcl.core.memory import is_out_of_memory
from robustcl.core.schema import parse
from robustcl.data.transform import ImageTransform
from robustcl.models.architectures import REASON, build_backbone, is_factory
from robustcl.models.description import OWN_HEADS, Description, build_head, describe_head
from robustcl.models.dual_batch_norm import BRANCHES
from robustcl.models.encoders import ARCHITECTURES
from robustcl.models.factory import Factory, approve, approved, find_factory, same_code
from robustcl.models.outline import outline, outlined_size
from robustcl.models.stored_file import Stored, content_hash, read_stored, write_stored
from robustcl.models.weights.placing import Placement

DUAL = ("acl", "dynacl")  # trained with two BatchNorm branches
_ROUNDING = 2.0**-7  # a mean in bfloat16, as an encoder has that was converted and converted back
_CHEAP = 2**30  # products of a forward pass that is tried with numbers
_KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class Loaded:
    """Hold what a checkpoint gave.

    Args:
        encoder: The encoder, in eval mode.
        classifier: The classifier; None where the checkpoint has no head.
        description: Its description.
        hash: SHA-256 of the file.
        notes: What could not be checked, a sentence each, for commands to print.
        facts: What was found out about a model that is no checkpoint, a line each, likewise.
        factory: The user's code that built it; None where it was no such code.
        placement: Where the tensors of a weight file went; None for others.
    """

    encoder: Encoder
    classifier: Classifier | None
    description: Description
    hash: str
    notes: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    placement: Placement | None = None
    factory: Factory | None = None

    @property
    def transform(self) -> ImageTransform | None:
        """How the model's own files bring images to its size; None where they do not say."""
        return self.description.transform


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
    write_stored(path, *_entries(model, description))


def hash_of(model: Encoder | Classifier, description: Description) -> str:
    """Hash all that a checkpoint of a model would hold, without writing one.

    Args:
        model: An encoder, or a classifier with its head.
        description: As in `save_checkpoint`.

    Returns:
        64 hexadecimal digits; another network, head or normalization has others.
    """
    return content_hash(*_entries(model, description))


def _entries(
    model: Encoder | Classifier, description: Description
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    entries = asdict(description)
    encoder = model.encoder if isinstance(model, Classifier) else model
    tensors = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    entries |= {"head": None, "head_arguments": {}, "class_names": ()}
    if isinstance(model, Classifier):
        head, numbers = describe_head(model.head, normalizes=model.normalizes)
        entries["head"], entries["head_arguments"] = head, numbers
        entries["class_names"] = model.class_names
        tensors |= {f"head.{name}": value for name, value in model.head.state_dict().items()}
    return entries, tensors


@torch.inference_mode(False)
def load_checkpoint(path: str | Path, *, arch: str | None = None) -> Loaded:
    """Read a checkpoint. Nothing is unpickled, and no code named in the file is run.

    Args:
        path: The file.
        arch: For a model that the user's own code builds, where that code is, typed by the user:
            `FILE.py:factory` or `package.module:factory`. It is then kept as approved for this file
            (see `models.factory`), and need not be typed again.

    Returns:
        The encoder, the classifier where there is a head, and the description.

    Raises:
        CheckpointError: When the file is missing, damaged, a pickle, foreign, of another
            architecture, or holds values that are not finite or of another type.
    """
    place = Path(path)
    stored = read_stored(place)
    tensors, description = stored.tensors, _description(stored, place)
    built: str | Factory = description.architecture
    if is_factory(description.architecture):
        if arch is None:
            try:
                built = approved(stored.hash, description.architecture)
            except CheckpointError as error:
                raise CheckpointError(f"{str(place)!r}: {error}") from error
        elif same_code(arch, description.architecture):
            built = find_factory(arch)
    if arch is not None and not isinstance(built, Factory) and arch != description.architecture:
        raise CheckpointError(
            f"{str(place)!r} holds {description.architecture!r}, not {arch!r}; leave out --arch"
        )
    for name, value in tensors.items():
        objection = objection_to_numbers(value, name)
        if objection:
            raise CheckpointError(f"{name!r} in {str(place)!r} {objection}; train or convert again")
    _check_names(tensors, description, place)
    _check_branch(tensors, description, place)
    encoder = _encoder(built, description, _under(tensors, "encoder."), place)
    classifier = None
    if description.head is not None:
        head = _head(description, _under(tensors, "head."), place)
        own = description.head in OWN_HEADS
        names = description.class_names
        classifier = Classifier(encoder, head, class_names=names, normalizes=not own).eval()
    factory = built if isinstance(built, Factory) else None
    if factory is not None and arch is not None:
        approve(factory, stored.hash)
    notes = _notes(stored, place)
    return Loaded(encoder, classifier, description, stored.hash, notes, factory=factory)


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
    return parse(
        Description,
        stored.entries,
        what=f"the description in {str(place)!r}",
        error=CheckpointError,
        cure="copy it again, or train or convert it again",
        strange=True,  # a later version may say more
        any_number=("recipe",),
    )


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): value for k, value in tensors.items() if k.startswith(prefix)}


def _encoder(
    built: str | Factory, description: Description, tensors: dict[str, Tensor], place: Path
) -> Encoder:
    # In the type that it was saved in, so that no number is rounded.
    size = _outlined(description, tensors, place)
    backbone = build_backbone(built, description.arguments, **_form(description))
    given = tensors.get("mean")
    kind = given.dtype if given is not None else None
    if kind in _KINDS and weight_type(backbone) not in (None, kind):
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
        if not torch.allclose(value, getattr(encoder, name), rtol=_ROUNDING, atol=0.0):
            raise CheckpointError(
                f"{str(place)!r} states {name} {value.flatten().tolist()} but holds "
                f"{getattr(encoder, name).flatten().tolist()}; convert or train it again"
            )
    _check_size(encoder.eval(), description, size, place)
    return encoder


def _form(description: Description) -> dict[str, Any]:
    # A head of the network itself stands for one of its layers, or for none.
    return {"whole": description.head in OWN_HEADS, "layer": description.head_layer}


def _outlined(description: Description, tensors: dict[str, Tensor], place: Path) -> int | None:
    # Before a number is allocated: what the description asks for is what the file holds.
    # Returns the size of embeddings where that can be told.
    own = _under(tensors, "backbone.")
    try:
        found = outline(description.architecture, description.arguments, own, **_form(description))
    except InputError as error:
        raise CheckpointError(
            f"the description in {str(place)!r} is not usable: {error}"
        ) from error
    if found is None:
        return None
    wanted, there = ({k: tuple(v.shape) for k, v in t.items()} for t in (_numbers(found), own))
    _check_same(wanted, there, place, description.architecture)
    if description.architecture in ARCHITECTURES and _work(found, description) <= _CHEAP:
        return None  # the meta device takes a second to load
    return outlined_size(found, description.image_shape)


def _work(network: nn.Module, description: Description) -> int:
    # At least the products of one image's forward pass in networks that never enlarge an image.
    weights = sum(value.numel() for value in network.parameters())
    return weights * math.prod(description.image_shape[1:])


def _check_size(encoder: Encoder, description: Description, size: int | None, place: Path) -> None:
    if size is None and not is_factory(description.architecture):
        try:
            with torch.no_grad():
                size = encoder(torch.full((1, *description.image_shape), 0.5)).shape[1]
        except Exception as error:  # of a library's code
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:REASON]
            raise CheckpointError(
                f"the network in {str(place)!r} does not take images of "
                f"{description.image_shape}, which its description states ({reason}); train or "
                "convert it again"
            ) from error
    if size is not None and description.embedding_size not in (0, size):
        raise CheckpointError(
            f"the description in {str(place)!r} states embedding_size "
            f"{description.embedding_size}, and its network gives {size}; train or convert it again"
        )


def _numbers(module: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in module.state_dict().items() if isinstance(v, Tensor)}


def _fill(module: nn.Module, tensors: dict[str, Tensor], place: Path, what: str) -> None:
    _check_same(_forms(_numbers(module)), _forms(tensors), place, what)
    module.load_state_dict(tensors)


def _check_same(
    wanted: Mapping[str, object], found: Mapping[str, object], place: Path, what: str
) -> None:
    wrong = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
    if wrong:
        first = "; ".join(f"{n}: {found.get(n)} for {wanted.get(n)}" for n in wrong[:3])
        raise CheckpointError(
            f"{str(place)!r} does not hold a {what}: {len(wrong)} tensors differ ({first}); "
            "use the checkpoint of that architecture"
        )


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{short(t.dtype)} {tuple(t.shape)}" for name, t in tensors.items()}


def _check_names(tensors: dict[str, Tensor], description: Description, place: Path) -> None:
    parts = ("encoder.",) if description.head is None else ("encoder.", "head.")
    strange = next((name for name in tensors if not name.startswith(parts)), None)
    if strange is not None:
        raise CheckpointError(
            f"{str(place)!r} holds {strange[:80]!r}, which is not of its "
            f"{' or its '.join(part[:-1] for part in parts)}; train or convert it again"
        )


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
    if isinstance(head, IdentityHead):
        sizes = {head.num_classes}
    if description.embedding_size and sizes != {description.embedding_size}:
        raise CheckpointError(
            f"{str(place)!r} has a head for embeddings of size {sizes} on an encoder of size "
            f"{description.embedding_size}; probe it again"
        )
    kinds = {value.dtype for value in tensors.values() if value.is_floating_point()}
    if len(kinds) == 1 and kinds <= set(_KINDS):
        head.to(kinds.pop())
    _fill(head, tensors, place, f"{name} head")  # as stored, prototypes not normalized once more
    return head
