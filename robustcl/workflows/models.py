"""Load the models that a command names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustcl.certify.bounds.networks import network_lipschitz_bound
from robustcl.core.choices import Aggregate
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.core.terminal import say
from robustcl.data.class_names import same_classes, some_names
from robustcl.data.views import ViewOptions, default_views
from robustcl.models.checkpoint import Loaded, load_checkpoint
from robustcl.models.description import Description
from robustcl.models.inference_views import draw_views
from robustcl.models.multi_view import MultiView
from robustcl.records.ranks import rank


def load_and_tell(path: str | Path, *, arch: str | None = None) -> Loaded:
    """Load a checkpoint; the first process writes its notes on stderr.

    Args:
        path: The file.
        arch: As in `load_checkpoint`.

    Returns:
        What is in it.
    """
    loaded = load_checkpoint(path, arch=arch)
    if rank() == 0:
        for note in loaded.notes:
            say(f"note: {note}")
    return loaded


class _Mean(nn.Module):
    # The mean score of several classifiers.

    def __init__(self, members: list[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([member(images) for member in self.members]).mean(dim=0)


def load_ensemble(
    members: list[Path], *, arch: str | None, device: str, classes: Sequence[str]
) -> Classifier | None:
    """Load the compute-matched baseline.

    Args:
        members: Checkpoints with a head.
        arch: For checkpoints made from package.module:factory.
        device: Where to compute.
        classes: The class names of the model that the mean is compared with; the members have the
            same, in the same order.

    Returns:
        The classifier of their mean score; None without members.

    Raises:
        InputError: When one has no head, or they do not fit together.
    """
    loaded = [load_and_tell(place, arch=arch).classifier for place in members]
    if not loaded:
        return None
    models = [model for model in loaded if model is not None]
    if len(models) < len(loaded) or len({(m.image_shape, m.num_classes) for m in models}) > 1:
        raise InputError(
            f"--ensemble {','.join(map(str, members))}: all need heads, images and classes alike"
        )
    other = next((m for m in models if not same_classes(m.class_names, classes)), None)
    if other is not None:
        raise InputError(
            f"--ensemble {','.join(map(str, members))}: one has the classes "
            f"{some_names(other.class_names)}, the checkpoint {some_names(classes)}; probe all on "
            "the same data"
        )
    for place, model in zip(members, models, strict=True):
        if tuple(model.class_names) != tuple(classes):
            own = some_names(model.class_names)
            say(f"note: classes of {str(place)!r} ({own}) are matched by position, not by name")
    mean = _Mean([model.to(device) for model in models]).eval()
    return Classifier.from_scores(
        mean, image_shape=models[0].image_shape, class_names=classes
    ).to(device)  # fmt: skip


@dataclass(frozen=True)
class Views:
    """Say which views.

    Args:
        family: As in `draw_views`.
        count: Number of views.
        aggregate: As in `MultiView`.
        seed: Seed of the draw.
    """

    family: str
    count: int
    aggregate: Aggregate
    seed: int

    def __str__(self) -> str:
        """Name the views in a manifest.

        Returns:
            One line.
        """
        return f"{self.family} x {self.count}, {self.aggregate}, seed {self.seed}"


def with_views(
    classifier: Classifier, views: Views, description: Description, data: str
) -> MultiView:
    """Make the multi-view model of a checkpoint.

    Args:
        classifier: Of the checkpoint.
        views: Which views.
        description: Of the checkpoint.
        data: Name of the data.

    Returns:
        The model.
    """
    drawn = draw_views(
        views.family,
        views.count,
        image_shape=classifier.image_shape,
        seed=views.seed,
        training=trained_views(description, data),
    )
    return MultiView(classifier, drawn, views.aggregate)


def trained_views(description: Description, data: str) -> ViewOptions:
    """Say how an encoder's training views were drawn.

    Args:
        description: Of its checkpoint.
        data: Name of the data, by which views are chosen where the checkpoint says nothing.

    Returns:
        The options.
    """
    said = description.recipe.get("views")
    if not isinstance(said, Mapping):
        return default_views(data.replace(":", "/").split(",")[0], description.image_shape)
    values: dict[str, Any] = dict(said)
    ranges = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return ViewOptions(**{**values, **ranges})


def checked_constant(encoder: Encoder, description: Description) -> float | None:
    """Compute the constant that certificates use, and refuse a claim that is smaller.

    Args:
        encoder: The encoder.
        description: What its checkpoint claims.

    Returns:
        The guaranteed L2 bound of the raw embedding, in pixel units; None where nothing is
        claimed, and then nothing is computed.

    Raises:
        InputError: When the claim is below the bound.
    """
    claimed = description.lipschitz_constant
    if claimed is None:
        return None
    computed = network_lipschitz_bound(encoder).total
    if not claimed >= computed:
        raise InputError(
            f"the checkpoint claims a Lipschitz constant of {claimed:.9g}, but the product of its "
            f"layers' guaranteed norms is {computed:.9g}; its weights were changed, or an older "
            "program rounded them: train it again with --robust lipschitz, or convert it anew, "
            "which claims nothing"
        )
    return computed


def constants_text(claimed: float, computed: float) -> str:
    """Say both constants.

    Args:
        claimed: By the checkpoint.
        computed: The guaranteed bound.

    Returns:
        A line of text.
    """
    return (
        f"Lipschitz constant of the embedding in L2: claimed {claimed:g}, computed from guaranteed "
        f"layer norms {computed:.9f}; certificates use the computed one"
    )
