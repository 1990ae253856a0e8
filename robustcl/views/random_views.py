"""Classify by views that are drawn anew at every call."""

import torch
from torch import Tensor

from robustcl.core.choices import Aggregate
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.views.inference_views import draw_views
from robustcl.views.multi_view import MultiView
from robustcl.views.view_options import ViewOptions


class RandomViews(Classifier):
    """Draw views from torch's default generator at every call, the same for the whole batch.

    A randomized model: attack `attacks.expectation` of it, and judge by fresh draws. As one draw
    serves the whole batch, what an image gets depends on the call, not on its place or on the
    batch. `MultiView` is the deterministic model of one draw.

    Args:
        classifier: The classifier of one view.
        family: As in `draw_views`.
        count: Views per call.
        aggregate: As in `MultiView`.
        temperature: As in `MultiView`.
        training: How the encoder's training views were drawn, for 'training'.
    """

    def __init__(
        self,
        classifier: Classifier,
        family: str,
        count: int,
        aggregate: Aggregate = "score",
        *,
        temperature: float = 1.0,
        training: ViewOptions | None = None,
    ) -> None:
        super().__init__(
            classifier.encoder,
            classifier.head,
            class_names=classifier.class_names,
            normalizes=classifier.normalizes,
        )
        if isinstance(classifier, MultiView | RandomViews):
            raise InputError("the classifier is multi-view already; give that of one view")
        self.single, self.family, self.count = classifier, family, count
        self.aggregate: Aggregate = aggregate
        self.temperature = temperature
        self.options = training
        self.training = classifier.training
        self.drawn(0)  # a mistake is said at once

    @property
    def affine_head(self) -> None:
        """None: the scores are no function of one embedding."""
        return

    @property
    def evaluations(self) -> int:
        """Passes through the network per image and call."""
        return self.count * self.single.evaluations

    def drawn(self, seed: int) -> MultiView:
        """Return the deterministic model of one draw.

        Args:
            seed: Seed of the draw.

        Returns:
            The model.
        """
        views = draw_views(self.family, self.count, image_shape=self.image_shape, seed=seed,
                           training=self.options)  # fmt: skip
        return MultiView(self.single, views, self.aggregate, temperature=self.temperature)

    def _now(self) -> MultiView:
        return self.drawn(int(torch.randint(2**31, ())))

    def raw_embeddings(self, images: Tensor) -> Tensor:
        """Return those of a fresh draw.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, d).
        """
        return self._now().raw_embeddings(images)

    def embeddings(self, images: Tensor) -> Tensor:
        """Return those of a fresh draw.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, d).
        """
        return self._now().embeddings(images)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores of a fresh draw.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, K).
        """
        return self._now()(images)
