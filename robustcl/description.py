"""State a checkpoint: the schema of what lies in its metadata."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import Meta

from robustcl.architectures import check_size
from robustcl.core.errors import InputError

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
        head: 'prototype', 'linear', 'knn', or None.
        head_arguments: Numbers the head needs besides its tensors.
        class_names: K names, or none without a head.
        recipe: How it was trained.
        version: Version of robustcl that wrote it.
        lipschitz_constant: What the maker claims of the raw embedding in L2, in pixel units; None
            for nothing. Certificates compute their own, and commands refuse a claim below it.
        normalization: Where mean and std of a converted encoder come from, as in 'stated' or
            'assumed'; '' where it was trained here, or converted by an earlier version.

    Raises:
        InputError: When the image shape is not usable, or there are not as many means and
            deviations as channels.
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

    def __post_init__(self) -> None:
        check_size(self.image_shape)
        for name in ("mean", "std"):
            row = getattr(self, name)
            if len(row) not in (1, self.image_shape[0]):
                raise InputError(
                    f"{name} {row} has {len(row)} numbers for {self.image_shape[0]} channels"
                )
