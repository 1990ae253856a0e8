"""Describe a model in words and numbers, as checkpoints keep it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor, nn

from robustcl.core.checks import short
from robustcl.core.classifier import IdentityHead
from robustcl.core.errors import CheckpointError, InputError
from robustcl.core.schema import parse
from robustcl.data.transform import ImageTransform
from robustcl.models.architectures import check_image_size
from robustcl.models.heads import KNNHead, LinearHead, PrototypeHead

Side = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0.0)]


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
        head: 'prototype', 'linear', 'knn', 'own_linear' (the network's own classification layer, on
            features that are not normalized), 'own_scores' (none: the network puts out scores), or
            None.
        head_arguments: Numbers the head needs besides its tensors.
        class_names: K names, or none without a head.
        recipe: How it was trained.
        version: Version of robustcl that wrote it.
        lipschitz_constant: What the maker claims of the raw embedding in L2, in pixel units; None
            for nothing. Certificates compute their own, and commands refuse a claim below it.
        head_layer: Name of the layer that an 'own_linear' head stands for.
        transform: How the model's own files bring images to `image_shape`; None where they do not
            say.
        normalization: Where mean and std of a converted encoder come from, as in 'stated' or
            'assumed'; '' where it was trained here, or converted by an earlier version.

    Raises:
        InputError: When the image shape is not usable, the transform leads to another one, or there
            are not as many means and deviations as channels.
    """

    architecture: Annotated[str, Meta(min_length=1, max_length=300)]
    arguments: dict[str, Any]
    image_shape: tuple[Side, Side, Side]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[Positive, ...] = (1.0,)
    embedding_size: Annotated[int, Meta(ge=0, le=2**40)] = 0
    head: str | None = None
    head_arguments: dict[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    lipschitz_constant: Positive | None = None
    normalization: str = ""
    head_layer: str = ""
    transform: ImageTransform | None = None

    def __post_init__(self) -> None:
        check_image_size(self.image_shape)
        for name in ("mean", "std"):
            row = getattr(self, name)
            if len(row) not in (1, self.image_shape[0]):
                raise InputError(
                    f"{name} {row} has {len(row)} numbers for {self.image_shape[0]} channels"
                )
        side = None if self.transform is None else self.transform.crop
        if self.transform is not None and (side, side) != self.image_shape[1:]:
            raise InputError(
                f"its transform crops images to {side}, and the image shape is {self.image_shape}"
            )


MOST_CLASSES = 1_000_000
# Heads of the network itself, which see features as they are, not on the sphere.
OWN_HEADS = ("own_linear", "own_scores")


@dataclass(frozen=True)
class KnnArguments:
    """Hold what a kNN head needs besides its tensors (see `KNNHead`).

    Args:
        k: Neighbors that vote.
        num_classes: K.
        temperature: Of their votes.
    """

    k: Annotated[int, Meta(ge=1)]
    num_classes: Annotated[int, Meta(ge=1, le=MOST_CLASSES)]
    temperature: Annotated[float, Meta(gt=0.0)] = 0.1


def describe_head(head: nn.Module, *, normalizes: bool = True) -> tuple[str, dict[str, Any]]:
    """Name a head and the numbers it needs besides its tensors.

    Args:
        head: A prototype, linear, kNN or identity head.
        normalizes: Whether the classifier puts embeddings on the sphere.

    Returns:
        Its name and arguments.

    Raises:
        CheckpointError: When it is another.
    """
    if isinstance(head, IdentityHead) and not normalizes:
        return "own_scores", {"num_classes": head.num_classes}
    if isinstance(head, LinearHead):
        return ("linear" if normalizes else "own_linear"), {}
    if not normalizes:
        raise CheckpointError(
            f"a head of type {type(head).__name__} on embeddings that are not normalized cannot be "
            "saved; use a linear one"
        )
    if isinstance(head, PrototypeHead):
        return "prototype", {}
    if isinstance(head, KNNHead):
        return "knn", asdict(KnnArguments(head.k, head.num_classes, head.temperature))
    raise CheckpointError(f"a head of type {type(head).__name__} cannot be saved; use a known head")


def build_head(name: str, arguments: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build a head of the right shape; the caller fills in the stored numbers.

    Args:
        name: As of `describe_head`.
        arguments: Likewise.
        tensors: Those of the head, by name.

    Returns:
        The head.

    Raises:
        InputError: When name, arguments or tensors are not usable.
    """
    for key, value in tensors.items():
        if not value.is_floating_point() and (name, key) != ("knn", "labels"):
            raise InputError(f"{key} is {short(value.dtype)}, not floating-point numbers")
    try:
        if name == "prototype":
            return PrototypeHead(tensors["weight"])
        if name == "own_scores":
            count = arguments.get("num_classes")
            if type(count) is not int or not 2 <= count <= MOST_CLASSES:
                raise InputError(f"num_classes {count!r} of its scores is no number of classes")
            return IdentityHead(count)
        if name in ("linear", "own_linear"):
            return LinearHead(tensors["weight"], tensors["bias"])
        if name == "knn":
            if tensors["labels"].dtype != torch.int64:
                raise InputError(f"labels are {short(tensors['labels'].dtype)}, not int64")
            own = parse(
                KnnArguments,
                arguments,
                what="head_arguments",
                error=InputError,
                cure="fit the head again",
            )
            return KNNHead(tensors["bank"], tensors["labels"], **asdict(own))
    except (KeyError, TypeError, IndexError, RuntimeError) as error:
        raise InputError(f"{type(error).__name__}: {error}") from error
    raise InputError(f"unknown head {name!r}; update robustcl")
