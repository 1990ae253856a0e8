"""State what adversarial training asks of its attack, which is an argument."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from robustcl.core.choices import Norm
from robustcl.core.errors import InputError
from robustcl.core.threat import Threat, check_norm


def check_training_norm(norm: str) -> Norm:
    """Return the norm when there is a training method for it.

    Args:
        norm: 'l2' or 'linf'.

    Returns:
        The same norm.

    Raises:
        InputError: When it is another.
    """
    if check_norm(norm) == "l1":
        raise InputError("no robust training is made for l1; use norm=l2 or norm=linf")
    return check_norm(norm)


class InnerAttack(Protocol):
    """Raise a loss within a threat; `attacks.inner_ascent` does."""

    def __call__(
        self,
        loss: Callable[[Tensor], Tensor],
        images: Tensor,
        threat: Threat,
        *,
        generator: torch.Generator,
        steps: int = 5,
        step_size: float = 0.0,
        gradient: Tensor | None = None,
    ) -> Tensor:
        """Return (B, ...) points within the threat; see `attacks.inner_ascent`."""
        ...
