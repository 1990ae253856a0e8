"""Decoupled adversarial contrastive learning: a robust student of a standard teacher."""

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from robustcl.core.errors import InputError
from robustcl.data.views.options import ViewOptions, weak_views
from robustcl.training.robust.attacked import LOSS, SHIFT, Attacked, attacked_views, turned
from robustcl.training.robust.views_step import Losses, ViewsStep

_STEPS = 5


@dataclass(frozen=True, kw_only=True)
class Deacl(Attacked):
    """State decoupled adversarial contrastive learning.

    Args:
        teacher: Checkpoint of the teacher; '' has the command train one without attack.
        weight: Weight of the robust part.

    Raises:
        InputError: When a value is not usable.
    """

    teacher: str = ""
    weight: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.weight < float("inf"):
            raise InputError(f"weight {self.weight} of deacl is not positive and finite; try 2")
        if self.goal not in (LOSS, SHIFT):
            raise InputError(
                f"goal={self.goal} of deacl, whose student sees no labels; use loss (away from the "
                "teacher) or shift (away from the student's own embedding)"
            )
        if self.attack == "free":
            raise InputError("deacl has no clean pass whose gradient is free; use attack=fast")

    @override
    def views(self, views: ViewOptions, *, epoch: int, epochs: int) -> ViewOptions:
        return weak_views(views)

    @override
    def loss(self, step: ViewsStep) -> Losses:
        return deacl(self, step)


def student_loss(clean: Tensor, moved: Tensor, teacher: Tensor, *, weight: float = 2.0) -> Tensor:
    """Compute -cos(f_S(x), f_T(x)) - weight cos(f_S(x + v), f_S(x)), the mean over images.

    Args:
        clean: (B, d) f_S(x).
        moved: (B, d) f_S(x + v).
        teacher: (B, d) f_T(x).
        weight: Of the robust part.

    Returns:
        A scalar in [-1 - weight, 1 + weight]; lowest where all three agree.

    Reference:
        Zhang et al., Decoupled Adversarial Contrastive Learning for Self-supervised Adversarial
        Robustness, ECCV 2022, section 3.2, with the weight of its table of results.
    """
    return (turned(clean, teacher) - 1.0).mean() + weight * (turned(moved, clean) - 1.0).mean()


def deacl(method: Deacl, step: ViewsStep) -> Losses:
    """Compute the student's loss on one weak view per image; the attack leads from the teacher.

    Args:
        method: The options.
        step: One batch; its first group and its teacher are seen, its losses are not.

    Returns:
        The loss, and its parts: 'distance' = 1 - cos(f_S(x), f_T(x)) and 'adversarial' =
        1 - cos(f_S(x + v), f_S(x)).

    Raises:
        InputError: When the teacher is missing.

    Reference:
        Zhang et al., ECCV 2022, algorithm 1.
    """
    if step.teacher is None:
        raise InputError("deacl needs a teacher; pass an encoder trained without attack")
    views = step.views[: step.sizes[0]]
    with torch.no_grad():
        wanted = step.teacher(views).float()
    kept: list[Tensor] = [wanted] if method.goal == LOSS else []

    def away(points: Tensor) -> Tensor:
        if not kept:
            with torch.no_grad():
                kept.append(step.encode(views))
        return turned(step.encode(points), kept[0])

    points = attacked_views(method, step, views, away, steps=method.count(_STEPS))
    clean, moved = step.encode(torch.cat([views, points])).chunk(2)
    parts = {"distance": turned(clean, wanted).mean(), "adversarial": turned(moved, clean).mean()}
    return student_loss(clean, moved, wanted, weight=method.weight), parts
