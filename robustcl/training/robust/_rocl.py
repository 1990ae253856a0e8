"""Robust contrastive learning: an instance-wise attack, and three groups of views."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from robustcl.core.errors import InputError
from robustcl.training.robust.attacked import SHIFT, Attacked, attacked_views, turned
from robustcl.training.robust.views_step import Losses, ViewsStep

_STEPS = 7


@dataclass(frozen=True, kw_only=True)
class Rocl(Attacked):
    """State robust contrastive learning.

    Args:
        weight: Weight of the loss between attacked and second views that is added to the loss over
            the three groups.

    Raises:
        InputError: When a value is not usable.
    """

    weight: float = 1 / 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.weight < float("inf"):
            raise InputError(f"weight {self.weight} of rocl is negative or not finite; try 1/256")
        if self.attack == "free":
            raise InputError("rocl has no clean pass whose gradient is free; use attack=fast")

    @override
    def loss(self, step: ViewsStep) -> Losses:
        return rocl(self, step)


def rocl(method: Rocl, step: ViewsStep) -> Losses:
    """Compute the loss over first, second and attacked first views, + weight L(attacked, second).

    The attack turns the first view away from the second view of the same image: it raises the loss
    of the pair. The loss over three groups is the mean over the three pairs of groups, so that any
    loss of two views will do; the paper has both positives inside one logarithm. All three groups
    go through the network, and its one set of BatchNorm statistics, together.

    Args:
        method: The options.
        step: One batch.

    Returns:
        The loss, and its parts: those of the clean pair, and 'adversarial', the loss between
        attacked and second views.

    Reference:
        Kim et al., Adversarial Self-Supervised Contrastive Learning, NeurIPS 2020, equations 4-6.
    """
    groups = step.views.split(step.sizes)
    anchors, others = groups[0::2], groups[1::2]
    points = attacked_views(
        method, step, torch.cat(anchors), _raised(method, step, anchors, others),
        steps=method.count(_STEPS),
    )  # fmt: skip
    embeddings = step.encode(torch.cat([step.views, points]))
    count = len(step.views)
    still = embeddings[:count].split(step.sizes)
    first, second = still[0::2], still[1::2]
    moved = embeddings[count:].split([len(part) for part in anchors])
    clean, parts = step.losses(_woven(first, second), remembers=True)
    adversarial, _ = step.losses(_woven(moved, second))
    drift, _ = step.losses(_woven(first, moved))
    total = (clean + adversarial + drift) / 3.0 + method.weight * adversarial
    return total, {**parts, "adversarial": adversarial}


def _raised(
    method: Rocl, step: ViewsStep, anchors: tuple[Tensor, ...], others: tuple[Tensor, ...]
) -> Callable[[Tensor], Tensor]:
    sizes, kept = [len(part) for part in anchors], []

    def loss(points: Tensor) -> Tensor:
        if not kept:  # what does not move is encoded once, in the mode of the attack
            with torch.no_grad():
                kept.append(step.encode(torch.cat(anchors if method.goal == SHIFT else others)))
        moved = step.encode(points)
        if method.goal == SHIFT:
            return turned(moved, kept[0])
        pairs = _woven(moved.split(sizes), kept[0].split(sizes))
        return step.losses(pairs, method.goal_terms)[0]

    return loss


def _woven(anchors: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> Tensor:
    # Embeddings in the order of the groups: anchors, others, anchors, others.
    return torch.cat([part for pair in zip(anchors, others, strict=True) for part in pair])
