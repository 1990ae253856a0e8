"""Give a classifier the views that the options name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustcl.core.choices import Aggregate
from robustcl.core.classifier import Classifier
from robustcl.data.views import ViewOptions, default_views
from robustcl.models.description import Description
from robustcl.models.inference_views import draw_views
from robustcl.models.multi_view import MultiView


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


def viewed(classifier: Classifier, views: Views, description: Description, data: str) -> MultiView:
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
