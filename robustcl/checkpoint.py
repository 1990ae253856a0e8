"""Save and load an encoder with its head: one safetensors file, never a pickle."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from robustcl.architectures import build_backbone, is_factory
from robustcl.classifier import Classifier, Encoder
from robustcl.errors import CheckpointError, RobustclError
from robustcl.heads import KNNHead, LinearHead, PrototypeHead
from robustcl.robust.dual_batch_norm import BRANCHES

SCHEMA = 1
KEY = "robustcl"
DUAL = ("acl", "dynacl")  # trained with two BatchNorm branches
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


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


@dataclass(frozen=True, eq=False)
class Loaded:
    """Hold what a checkpoint gave.

    Args:
        encoder: The encoder, in eval mode.
        classifier: The classifier; None where the checkpoint has no head.
        description: Its description.
        hash: SHA-256 of the file.
    """

    encoder: Encoder
    classifier: Classifier | None
    description: Description
    hash: str


def describe_head(head: nn.Module) -> tuple[str, dict[str, Any]]:
    """Name a head and the numbers it needs besides its tensors.

    Args:
        head: A prototype, linear or kNN head.

    Returns:
        Its name and arguments.

    Raises:
        CheckpointError: When it is another.
    """
    if isinstance(head, PrototypeHead):
        return "prototype", {}
    if isinstance(head, LinearHead):
        return "linear", {}
    if isinstance(head, KNNHead):
        numbers = {"k": head.k, "num_classes": head.num_classes, "temperature": head.temperature}
        return "knn", numbers
    raise CheckpointError(f"a head of type {type(head).__name__} cannot be saved; use a known head")


def save_checkpoint(path: Path, model: Encoder | Classifier, description: Description) -> None:
    """Write a checkpoint; the file is either the old one or the new one.

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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    metadata = {KEY: json.dumps({"schema": SCHEMA, **entries})}
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    save_file(copies, temporary, metadata=metadata)
    temporary.replace(path)


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
            architecture, or holds values that are not finite.
    """
    place = Path(path)
    tensors, description = _read(place)
    if is_factory(description.architecture) and arch != description.architecture:
        raise CheckpointError(
            f"{str(place)!r} was made by the code {description.architecture!r}, which is not run "
            f"on a file's word; add --arch {description.architecture} if you trust it"
        )
    if arch is not None and arch != description.architecture:
        raise CheckpointError(
            f"{str(place)!r} holds {description.architecture!r}, not {arch!r}; leave out --arch"
        )
    _check_finite(tensors, place)
    _check_branch(tensors, description, place)
    backbone = build_backbone(description.architecture, description.arguments)
    encoder = Encoder(
        backbone,
        image_shape=description.image_shape,
        mean=description.mean,
        std=description.std,
    )
    _fill(encoder, _under(tensors, "encoder."), place, description.architecture)
    encoder.eval()
    classifier = None
    if description.head is not None:
        head = _head(description, _under(tensors, "head."), place)
        classifier = Classifier(encoder, head, class_names=description.class_names).eval()
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    return Loaded(encoder, classifier, description, digest)


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
    tensors, description = _read(Path(path))
    return description, tensors


def _read(place: Path) -> tuple[dict[str, Tensor], Description]:
    if not place.is_file():
        raise CheckpointError(f"there is no checkpoint {str(place)!r}; check the path")
    try:
        with safe_open(place, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        with place.open("rb") as stream:  # a sound file may begin with the same bytes by chance
            is_pickle = stream.read(4).startswith(PICKLES)
        if is_pickle:
            raise CheckpointError(
                f"{str(place)!r} is a pickle (torch.save), which can run code and is not loaded; "
                "bring its weights in by: robustcl convert WEIGHTS --arch ARCH --out CKPT"
            ) from error
        raise CheckpointError(
            f"{str(place)!r} is damaged or cut off ({error}); copy or train it again"
        ) from error
    if KEY not in metadata:
        raise CheckpointError(
            f"{str(place)!r} has no robustcl description; bring its weights in by: robustcl convert"
        )
    try:
        entries = json.loads(metadata[KEY])
        schema = entries.pop("schema")
        if schema != SCHEMA:
            raise CheckpointError(
                f"{str(place)!r} has schema {schema!r}; this version reads {SCHEMA}"
            )
        return tensors, _description(entries)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{str(place)!r} has an unreadable description ({error})") from error


def _description(entries: Mapping[str, Any]) -> Description:
    known = {entry.name for entry in fields(Description)}
    values = {key: value for key, value in entries.items() if key in known}
    for key in ("image_shape", "mean", "std", "class_names"):
        values[key] = tuple(values[key])
    return Description(**values)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): value for k, value in tensors.items() if k.startswith(prefix)}


def _fill(module: nn.Module, tensors: dict[str, Tensor], place: Path, what: str) -> None:
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    wrong = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
    if wrong:
        first = "; ".join(f"{n}: {found.get(n)} for {wanted.get(n)}" for n in wrong[:3])
        raise CheckpointError(
            f"{str(place)!r} does not hold a {what}: {len(wrong)} tensors differ ({first}); "
            "use the checkpoint of that architecture"
        )
    module.load_state_dict(tensors)


def _check_finite(tensors: Mapping[str, Tensor], place: Path) -> None:
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{str(place)!r} has NaN or infinite values in {name!r}; train or convert it again"
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
    try:
        if description.head == "prototype":
            head = PrototypeHead(tensors["weight"])
            head.weight.copy_(tensors["weight"])  # as stored, not normalized once more
            return head
        if description.head == "linear":
            return LinearHead(tensors["weight"], tensors["bias"])
        if description.head == "knn":
            return KNNHead(tensors["bank"], tensors["labels"], **description.head_arguments)
    except (KeyError, TypeError, RobustclError) as error:
        raise CheckpointError(
            f"{str(place)!r} has an unusable head ({error}); probe it again"
        ) from error
    raise CheckpointError(
        f"{str(place)!r} has an unknown head {description.head!r}; update robustcl"
    )
