"""State what a study of multi-view inference compares."""

from dataclasses import dataclass

import numpy as np

from robustcl import attacks
from robustcl.core.budgets import check_budgets
from robustcl.core.choices import AGGREGATES, Aggregate, Norm
from robustcl.core.errors import InputError
from robustcl.core.threat import check_norm
from robustcl.models.inference_views import parse_views

SINGLE = "single view"


@dataclass(frozen=True)
class StudyPlan:
    """State what is compared with the single view.

    Args:
        views: Family of views, as in `draw_views`.
        counts: Numbers of views, ascending; accuracy and calibration are measured for all, attacks
            and certificates for the largest.
        aggregates: How views are put together.
        norm: 'l2' or 'linf'.
        eps: Budget of the attacks.
        attacked: Images that are attacked and certified: the first of the test images.
        attack: The attack on every model, single or multi-view, as in 'every_view:steps=20'.
        noise: Standard deviation of the noise on the corrupted images.
        seed: Seed of views, attacks and intervals.
        batch_size: Images per model call.
        certificates: Whether radii are certified.
        draws: Draws of fresh views that are attacked on average; 0 leaves such a model out.

    Raises:
        InputError: When something is unknown or empty.
    """

    views: str = "shift"
    counts: tuple[int, ...] = (1, 2, 4, 8)
    aggregates: tuple[Aggregate, ...] = ("embedding", "score", "vote")
    norm: Norm = "l2"
    eps: float = 0.25
    attacked: int = 200
    attack: str = "every_view:steps=20,restarts=2"
    noise: float = 0.1
    seed: int = 0
    batch_size: int = 128
    certificates: bool = True
    draws: int = 0

    def __post_init__(self) -> None:
        parse_views(self.views)
        attacks.parse_attack(self.attack)
        check_norm(self.norm)
        if not self.counts or self.counts[0] < 1:
            raise InputError(f"counts {self.counts}: zero views answer nothing; use 1,2,4,8")
        if any(low >= high for low, high in zip(self.counts, self.counts[1:], strict=False)):
            raise InputError(f"counts {self.counts} do not ascend; write 1,2,4,8")
        unknown = [name for name in self.aggregates if name not in AGGREGATES]
        if unknown or not self.aggregates:
            raise InputError(f"aggregates {self.aggregates}; known: {', '.join(AGGREGATES)}")
        if self.draws < 0:
            raise InputError(f"draws {self.draws} is negative; use 20, or 0 for no fresh views")
        check_budgets((self.eps,), self.norm)
        if self.attacked < 1 or self.batch_size < 1 or not 0 <= self.noise < np.inf:
            raise InputError(f"attacked {self.attacked}, batch_size {self.batch_size} and noise "
                             f"{self.noise} are not all usable")  # fmt: skip

    @property
    def most(self) -> int:
        """The largest number of views."""
        return self.counts[-1]

    def name(self, aggregate: str, count: int) -> str:
        """Name a multi-view model.

        Args:
            aggregate: How views are put together.
            count: Number of views.

        Returns:
            The name.
        """
        return f"{aggregate} of {count}"
