"""Hold what a method of robust training sees of one batch."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustcl.training.losses.sums import Term
from robustcl.training.robust.inner_attack import InnerAttack

Losses = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class ViewsStep:
    """Hold one batch of views and what can be computed on it.

    The groups of views follow one another: first and second views of the batch, and those of the
    class-stratified batch where there is one.

    Args:
        model: Whose mode, weights and BatchNorm branches count.
        views: (V, C, H, W) this process's views of all groups, in [0, 1].
        sizes: Views of each group, an even number of groups.
        encode: Views of any number to embeddings.
        losses: Embeddings of all groups to the loss in use and its parts, or to that of other
            terms; with remembers=True they enter the loss's own memory (see `train_step`).
        normal: Draws standard normal noise of the views' shape; several processes each draw that
            of the whole batch and keep their part, so they stay in step.
        generator: Source of all other randomness.
        weights: What the optimizer trains.
        epoch: Epochs that are over.
        epochs: Epochs of training.
        attack: What finds attacked views, or None.
        teacher: A frozen encoder in eval mode, or None.
    """

    model: nn.Module
    views: Tensor
    sizes: tuple[int, ...]
    encode: Callable[[Tensor], Tensor]
    losses: Callable[..., Losses]
    normal: Callable[[], Tensor]
    generator: torch.Generator
    weights: tuple[nn.Parameter, ...] = ()
    epoch: int = 0
    epochs: int = 1
    attack: InnerAttack | None = None
    teacher: nn.Module | None = None

    def loss_at(
        self, views: Tensor, terms: tuple[Term, ...] = (), *, remembers: bool = False
    ) -> Losses:
        """Return the loss of views.

        Args:
            views: (V, C, H, W), in the order of `views`.
            terms: Losses in place of the one in use.
            remembers: Whether the embeddings enter the loss's own memory; once per batch.

        Returns:
            The loss and its parts.
        """
        return self.losses(self.encode(views), terms, remembers)
