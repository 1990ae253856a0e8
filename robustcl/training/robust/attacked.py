"""State how training views are attacked, and attack them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.budgets import check_budgets
from robustcl.core.choices import Norm
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.core.threat import Threat
from robustcl.models.dual_batch_norm import ADVERSARIAL, using_branch
from robustcl.training.losses.sums import Term, parse_losses
from robustcl.training.robust.inner_attack import check_training_norm
from robustcl.training.robust.method import RobustMethod
from robustcl.training.robust.views_step import ViewsStep

_DEFAULT_EPS: dict[Norm, float] = {"linf": 8 / 255, "l2": 0.5}
VARIANTS = ("pgd", "fast", "free")
LOSS, SHIFT = "loss", "shift"


@dataclass(frozen=True, kw_only=True)
class Attacked(RobustMethod):
    """State how training views are attacked.

    Args:
        norm: 'linf' or 'l2'.
        eps: Budget in pixel units; None for 8/255 in Linf and 0.5 in L2.
        attack: 'pgd'; 'fast': one step from a random start; 'free': one step by the gradient that
            the clean loss leaves at the views, which costs no pass of its own.
        steps: Steps of 'pgd'; None for the method's own number. The others have one.
        step: Step in units of eps; 0 for the larger of 1.25/steps and 0.25.
        goal: What the attack raises: 'loss', the loss in use; 'shift', the angle by which the
            embedding turns, without labels; or a loss by its name, as 'supcon', 'suncet' or
            'cross_entropy', with labels.

    Raises:
        InputError: When a value is not usable.
    """

    norm: str = "linf"
    eps: float | None = None
    attack: str = "pgd"
    steps: int | None = None
    step: float = 0.0
    goal: str = LOSS

    def __post_init__(self) -> None:
        norm = check_training_norm(self.norm)
        if self.eps is not None and not 0.0 < self.eps < math.inf:
            raise InputError(
                f"eps {self.eps} leaves the attack nothing to do; use a budget > 0, as 8/255, or "
                "train without --robust"
            )
        if self.eps is not None:
            check_budgets((self.eps,), norm)
        if self.attack not in VARIANTS:
            raise InputError(f"unknown attack {self.attack!r}; use {', '.join(VARIANTS)}")
        if self.steps is not None and (self.steps < 1 or (self.attack != "pgd" and self.steps > 1)):
            raise InputError(
                f"attack {self.attack} of {self.steps} steps; pgd has 1 or more, fast and free 1"
            )
        if not 0.0 <= self.step < math.inf:
            raise InputError(f"step {self.step} is negative or not finite; use 0 for the default")
        if self.attack == "free" and self.goal != LOSS:
            raise InputError(
                f"attack=free has the gradient of the loss in use only, not of goal={self.goal}; "
                "leave out the goal, or use attack=fast"
            )
        _ = self.goal_terms

    @property
    def threat(self) -> Threat:
        """What the attack may do, in the box [0, 1]."""
        norm = check_training_norm(self.norm)
        return Threat(norm, _DEFAULT_EPS[norm] if self.eps is None else self.eps)

    @property
    def goal_terms(self) -> tuple[Term, ...]:
        """The loss that the goal names; none for 'loss' and 'shift'."""
        return () if self.goal in (LOSS, SHIFT) else parse_losses(self.goal)

    def count(self, default: int) -> int:
        """Return the number of steps.

        Args:
            default: The method's own, for 'pgd'.

        Returns:
            The steps.
        """
        return 1 if self.attack != "pgd" else self.steps or default


def attacked_views(
    method: Attacked,
    step: ViewsStep,
    views: Tensor,
    raised: Callable[[Tensor], Tensor],
    *,
    steps: int,
    gradient: Tensor | None = None,
) -> Tensor:
    """Attack views, with the network in eval mode and its adversarial branch in use.

    Neither weights nor BatchNorm statistics change, and no gradient of weights is left.

    Args:
        method: What the attack may do.
        step: The network and the attack.
        views: (V, C, H, W).
        raised: Points to losses of any shape.
        steps: Steps.
        gradient: Of the loss at the views, where it is known ('free').

    Returns:
        (V, C, H, W), without gradient.

    Raises:
        InputError: When the step has no attack.
    """
    if step.attack is None:
        raise InputError("attacked views need an attack; pass attack=attacks.inner_ascent")
    layout = torch.channels_last if views.shape[1] > 1 else torch.contiguous_format
    with using_branch(step.model, ADVERSARIAL), eval_mode(step.model):
        points = step.attack(
            raised,
            views,
            method.threat,
            generator=step.generator,
            steps=steps,
            step_size=method.step,
            gradient=gradient,
        )
    return points.contiguous(memory_format=layout)


def turned(embeddings: Tensor, reference: Tensor) -> Tensor:
    """Compute by how much each embedding is turned from its reference.

    Args:
        embeddings: (V, d).
        reference: (V, d).

    Returns:
        (V,) 1 - cosine, in [0, 2].
    """
    return 1.0 - functional.cosine_similarity(embeddings.float(), reference.float(), dim=1)
