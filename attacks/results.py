"""State what an attack found."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from robustcl.attacks.curve import LossCurve
from robustcl.attacks.steps import column

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Candidates:
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
class AttackResult:
    """Hold what was verified, per image.

    Args:
        attack: The attack's name.
        adversarials: (B, C, H, W) the points behind `radius`; where there is none those behind
            `deployed`, else the clean image.
        success: (B,) whether the deployed model was fooled: its margin was positive, in its own
            type and a batch of the fixed shape, within the threat.
        deployed: (B,) float64 norm at which it was, in pixel units; infinite where not.
        radius: (B,) float64 norm at which a float64 copy is fooled beyond its own rounding, an
            upper bound of the true radius; infinite where there is no such point.
        gradients: (B,) int64 gradient evaluations.
        parameters: Options of the attack.
        note: What the reader should know.
        forwards: (B,) int64 forward passes of the search, its verification left out; None where
            they cannot be counted.
        curves: What had been reached after each number of evaluations, by budget; empty for
            attacks that do not call the margin.
        stages: (B,) int64 gradient evaluations by stage, where there are several.
        seconds: Time of all images by stage, likewise.
        failed: (B,) largest budget at which nothing was found, 0 for none; None where only one
            budget was tried.
    """

    attack: str
    adversarials: Tensor
    success: Tensor
    deployed: Tensor
    radius: Tensor
    gradients: Tensor
    parameters: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    forwards: Tensor | None = None
    curves: dict[float, LossCurve] = field(default_factory=dict)
    stages: dict[str, Tensor] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: Tensor | None = None

    @property
    def confirmed(self) -> Tensor:
        """(B,) whether the radius is finite."""
        return torch.isfinite(self.radius)

    def frame(self) -> "pd.DataFrame":
        """Return one row per image: attack, success, norms, gradient evaluations.

        Returns:
            The table; norms in pixel units, infinite where nothing was found.
        """
        import pandas as pd  # slow to import

        return pd.DataFrame({
            "attack": self.attack,
            "success": self.success.cpu().numpy(),
            "deployed": self.deployed.cpu().numpy(),
            "radius": self.radius.cpu().numpy(),
            "gradients": self.gradients.cpu().numpy(),
        })

    def __str__(self) -> str:
        head = f"{self.attack}: {int(self.success.sum())} of {len(self.success)} images fooled"
        head += "; attacked radii in the norm of the threat, pixel units"
        return f"{head}\n{self.frame().to_string(max_rows=12)}"


def join_candidates(searches: Sequence[Candidates]) -> Candidates:
    """Put the searches of several batches into one.

    Args:
        searches: At least one, by one attack, in order.

    Returns:
        The search for all images.
    """
    parameters: dict[str, Any] = {}
    for search in searches:
        parameters.update(search.parameters)
    forwards = [search.forwards for search in searches if search.forwards is not None]
    return Candidates(
        torch.cat([search.candidates for search in searches]),
        torch.cat([search.gradients for search in searches]),
        join_notes(search.note for search in searches),
        torch.cat(forwards) if len(forwards) == len(searches) else None,
        parameters,
    )


def join_notes(notes: Iterable[str]) -> str:
    """Put notes into one, each once.

    Args:
        notes: Notes, some of them empty.

    Returns:
        The note.
    """
    return "; ".join(sorted({note for note in notes if note}))


def nearer_result(before: AttackResult, after: AttackResult) -> AttackResult:
    """Take the nearer point of each image, for the deployed model, and add up what was spent.

    Args:
        before: A attack result of which nothing is confirmed; its name, note and curves stay.
        after: Another one for the same images.

    Returns:
        The nearer of both.
    """
    better = after.success & (after.deployed < before.deployed)
    forwards = None
    if before.forwards is not None and after.forwards is not None:
        forwards = before.forwards + after.forwards
    wide = column(better, before.adversarials)
    return replace(
        before,
        adversarials=torch.where(wide, after.adversarials, before.adversarials),
        success=before.success | better,
        deployed=torch.where(better, after.deployed, before.deployed),
        gradients=before.gradients + after.gradients,
        forwards=forwards,
    )
