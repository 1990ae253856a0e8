"""Classify by several views of every image."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from robustcl.core.checks import check_form
from robustcl.core.choices import AGGREGATES, Aggregate
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError


class MultiView(Classifier):
    """Score classes by an aggregate over fixed views; everything that takes a classifier takes it.

    * 'embedding': the raw embeddings h are averaged, then read as those of one image, on the sphere
      where the classifier does so;
    * 'score': the scores are averaged;
    * 'max': every class gets its highest score over the views;
    * 'vote': the share of views that vote for a class, ties broken by the mean score. Its gradient
      is that of the tie-breaking term alone, a fraction of softmax(mean score / T): a vote has none
      of its own. So an attack must aim at single views too: see `attacks.every_view`;
    * 'confidence': scores averaged with weights in proportion to max softmax(score / T).

    The network sees one view of the whole batch at a time, so its batch shape, and its memory
    without gradients, are those of the classifier, and K views cost K forward passes. With
    gradients the graphs of all views are held, unless `recompute` is set.

    Args:
        classifier: The classifier of one view, which is held, not copied.
        views: Modules or functions from images to images of the same shape, the same for every
            image of a batch.
        aggregate: One of `AGGREGATES`.
        temperature: T, for 'vote' and 'confidence'.
        recompute: Whether a backward pass computes each view's forward pass again instead of
            holding its graph: one more forward pass for the memory of one view.

    Raises:
        InputError: When there are no views, one changes the image's shape or its batch, or the
            aggregate or the temperature is not usable.
    """

    def __init__(
        self,
        classifier: Classifier,
        views: Sequence[Callable[[Tensor], Tensor]],
        aggregate: Aggregate = "score",
        *,
        temperature: float = 1.0,
        recompute: bool = False,
    ) -> None:
        super().__init__(
            classifier.encoder,
            classifier.head,
            class_names=classifier.class_names,
            normalizes=classifier.normalizes,
        )
        if aggregate not in AGGREGATES:
            raise InputError(f"unknown aggregate {aggregate!r}; known: {', '.join(AGGREGATES)}")
        if not 0 < temperature < torch.inf:
            raise InputError(f"temperature {temperature} is not positive and finite")
        if isinstance(classifier, MultiView):
            raise InputError("the classifier is multi-view already; give that of one view")
        self.single = classifier
        self.views = nn.ModuleList(
            view if isinstance(view, nn.Module) else _Function(view) for view in views
        ).to(classifier.encoder.mean.device)
        self.aggregate: Aggregate = aggregate
        self.temperature = temperature
        self.recompute = recompute
        self.training = classifier.training
        self._check_views()

    def _check_views(self) -> None:
        if not len(self.views):
            raise InputError("there are no views; give at least one")
        gray = torch.full((2, *self.image_shape), 0.5, device=self.encoder.mean.device)
        for number, view in enumerate(self.views):
            with torch.no_grad():
                seen = tuple(view(gray).shape)
            if seen != tuple(gray.shape):
                raise InputError(
                    f"view {number} turns images {tuple(gray.shape[1:])} into {seen[1:]}; a view "
                    "keeps shape and number of the images, so resize within it"
                )

    @property
    def affine_head(self) -> tuple[Tensor, Tensor] | None:
        """W and b where the scores are W f + b of `embeddings`; None for other aggregates."""
        return self.single.affine_head if self.aggregate in ("embedding", "score") else None

    @property
    def evaluations(self) -> int:
        """Passes through the network per image and call."""
        return len(self.views) * self.single.evaluations

    def each(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Apply a function to every view of the images, one view at a time.

        Args:
            function: (B, C, H, W) to (B, ...).
            images: (B, C, H, W).

        Returns:
            (K, B, ...).

        Raises:
            InputError: When the images are of another type or shape than the encoder takes.
        """
        check_form(images, self.image_shape)
        holds = torch.is_grad_enabled() and images.requires_grad and self.recompute

        def one(view: nn.Module) -> Tensor:
            if not holds:
                return function(view(images))
            return checkpoint(
                lambda points: function(view(points)),
                images,
                use_reentrant=False,
                preserve_rng_state=False,
            )

        return torch.stack([one(view) for view in self.views])

    def per_view(self, images: Tensor) -> Tensor:
        """Return the scores of every view.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (K, B, classes).
        """
        return self.each(self.single, images)

    def raw_embeddings(self, images: Tensor) -> Tensor:
        """Return the mean of the views' raw embeddings.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, d), not normalized.
        """
        return self.each(self.single.raw_embeddings, images).mean(dim=0)

    def embeddings(self, images: Tensor) -> Tensor:
        """Return what the head sees with 'embedding', else the mean of the views' embeddings.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, d), on the sphere for 'embedding', within it for the others.
        """
        if self.aggregate == "embedding":
            return super().embeddings(images)
        return self.each(self.single.embeddings, images).mean(dim=0)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, K).
        """
        if self.aggregate == "embedding":
            return super().forward(images)
        return aggregated(self.per_view(images), self.aggregate, temperature=self.temperature)


def aggregated(scores: Tensor, aggregate: Aggregate, *, temperature: float = 1.0) -> Tensor:
    """Reduce the scores of several views to one score per class.

    Args:
        scores: (K, B, classes), one row per view.
        aggregate: Any but 'embedding'.
        temperature: T of `MultiView`.

    Returns:
        (B, classes).

    Raises:
        InputError: When the aggregate is not one of scores.
    """
    if aggregate == "score":
        return scores.mean(dim=0)
    if aggregate == "max":
        return scores.amax(dim=0)
    if aggregate == "vote":
        votes = functional.one_hot(scores.argmax(dim=2), scores.shape[2]).to(scores).mean(dim=0)
        # At most half a vote, so it orders only classes of as many votes.
        return votes + torch.softmax(scores.mean(dim=0) / temperature, 1) / (2 * len(scores))
    if aggregate == "confidence":
        weights = torch.softmax(scores / temperature, dim=2).amax(dim=2, keepdim=True)
        return (weights * scores).sum(dim=0) / weights.sum(dim=0)
    raise InputError(f"{aggregate!r} is no aggregate of scores; average raw embeddings instead")


class _Function(nn.Module):
    # A view that is a plain function.

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)
