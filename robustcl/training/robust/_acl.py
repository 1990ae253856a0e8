"""Adversarial contrastive learning: the loss of clean views and of attacked ones."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from robustcl.core.errors import InputError
from robustcl.models.dual_batch_norm import ADVERSARIAL, CLEAN, using_branch
from robustcl.training.robust.attacked import LOSS, SHIFT, Attacked, attacked_views, turned
from robustcl.training.robust.views_step import Losses, ViewsStep

_STEPS = 5


@dataclass(frozen=True, kw_only=True)
class Acl(Attacked):
    """State adversarial contrastive learning with two BatchNorm branches.

    Args:
        weight: Share of the adversarial part in the loss; the clean part has the rest.

    Raises:
        InputError: When a value is not usable.
    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.weight <= 1.0:
            raise InputError(f"weight {self.weight} of acl is not a share in (0, 1]; try 0.5")

    @override
    def loss(self, step: ViewsStep) -> Losses:
        return acl(self, step)


def acl(method: Acl, step: ViewsStep, *, weight: float | None = None) -> Losses:
    """Compute (1 - w) L(clean views) + w L(attacked views), any loss L.

    Both views are attacked at once. The clean part goes through the clean BatchNorm branch, attack
    and adversarial part through the adversarial one, which is kept after training. With w = 1
    there is no clean pass, as in Madry et al. 2018.

    Args:
        method: The options.
        step: One batch.
        weight: w in place of the method's own.

    Returns:
        The loss, and its parts: those of the clean loss, and 'adversarial'.

    Reference:
        Jiang et al., Robust Pre-Training by Adversarial Contrastive Learning, NeurIPS 2020,
        section 3.2 (dual stream).
    """
    share = method.weight if weight is None else weight
    if share == 1.0 and method.attack != "free":
        return _adversarial_only(method, step)
    clean, parts, gradient = _clean(method, step)
    points = attacked_views(
        method,
        step,
        step.views,
        raised(method, step),
        steps=method.count(_STEPS),
        gradient=gradient,
    )
    with using_branch(step.model, ADVERSARIAL):
        adversarial, _ = step.loss_at(points)
    return (1.0 - share) * clean + share * adversarial, {**parts, "adversarial": adversarial}


def _adversarial_only(method: Acl, step: ViewsStep) -> Losses:
    points = attacked_views(
        method, step, step.views, raised(method, step), steps=method.count(_STEPS)
    )
    with using_branch(step.model, ADVERSARIAL):
        loss, parts = step.loss_at(points, remembers=True)
    return loss, {**parts, "adversarial": loss}


def raised(method: Attacked, step: ViewsStep) -> Callable[[Tensor], Tensor]:
    """Return what the attack on all views raises.

    Args:
        method: Its goal counts.
        step: One batch.

    Returns:
        (V, C, H, W) points to losses.
    """
    if method.goal != SHIFT:
        return lambda points: step.loss_at(points, method.goal_terms)[0]
    references: list[Tensor] = []

    def shift(points: Tensor) -> Tensor:
        if not references:  # in the mode and the branch of the attack
            with torch.no_grad():
                references.append(step.encode(step.views))
        return turned(step.encode(points), references[0])

    return shift


def _clean(method: Acl, step: ViewsStep) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
    if method.attack != "free":
        with using_branch(step.model, CLEAN):
            return *step.loss_at(step.views, remembers=True), None
    assert method.goal == LOSS
    points = step.views.detach().requires_grad_()
    with using_branch(step.model, CLEAN):
        clean, parts = step.loss_at(points, remembers=True)
    slope, *slopes = torch.autograd.grad(clean, [points, *step.weights], allow_unused=True)
    # One backward pass gives both gradients. That of the weights comes back by a stand-in of value
    # 0 with the same gradient, so the caller's backward pass does not run through the clean views.
    pairs = zip(step.weights, slopes, strict=True)
    stand_in = torch.stack([(w * g).sum() for w, g in pairs if g is not None]).sum()
    clean = clean.detach() + (stand_in - stand_in.detach())
    return clean, {name: part.detach() for name, part in parts.items()}, slope.detach()
