"""Say what an attack found."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Finding:
    """Hold the adversarials of B images; every success was measured again by `run`.

    `success`, `radius` and `gradients` lie on the CPU, `adversarials` where the images do.

    Args:
        attack: Name of the attack.
        adversarials: (B, C, H, W) float32; the clean image where nothing was found.
        success: (B,) whether the adversary won.
        radius: (B,) float64 norm of the perturbation in pixel units; infinite where not found.
        gradients: (B,) gradient evaluations spent on each image.
        parameters: Norm, budgets and all options, defaults included.
        note: What differs from the attack as published; empty when nothing does.
    """

    attack: str
    adversarials: Tensor
    success: Tensor
    radius: Tensor
    gradients: Tensor
    parameters: dict[str, Any] = field(default_factory=dict)
    note: str = ""
