"""State what adversarial training asks of its attack, which is an argument."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from robustcl.core.threat import Threat


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
