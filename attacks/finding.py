"""State what an attack found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Search:
    """Hold what an attack proposes, before anything is verified.

    Args:
        candidates: (B, C, H, W) images.
        gradients: (B,) int64 gradient evaluations spent per image.
        note: What the reader should know, such as a part of the attack that was left out.
        forwards: (B,) int64 forward passes spent per image; None where they were not counted.
        parameters: What the attack was run with, where that is more than the options given.
    """

    candidates: Tensor
    gradients: Tensor
    note: str = ""
    forwards: Tensor | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Finding:
    """Hold what was verified, per image.

    Args:
        attack: The attack's name.
        adversarials: (B, C, H, W) verified adversarials; the clean image where none was found.
        success: (B,) whether the objective is positive on it, within the threat.
        radius: (B,) float64 norm of the perturbation, in pixel units; infinite where not found.
        gradients: (B,) int64 gradient evaluations.
        parameters: Options of the attack.
        note: What the reader should know.
        forwards: (B,) int64 forward passes; None where they were not counted.
    """

    attack: str
    adversarials: Tensor
    success: Tensor
    radius: Tensor
    gradients: Tensor
    parameters: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    forwards: Tensor | None = None
