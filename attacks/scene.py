"""Hold what an attack is given, so that its stages hand on one thing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from robustcl.objectives import Objective
from robustcl.threat import Threat


@dataclass(frozen=True, eq=False)
class Scene:
    """Say which images are attacked, to what end, within what, and how many at a time.

    Args:
        objective: What is raised.
        images: (B, C, H, W) clean images.
        threat: What is allowed.
        seeds: One seed per image.
        batch_size: Images per model call.
    """

    objective: Objective
    images: Tensor
    threat: Threat
    seeds: Sequence[int]
    batch_size: int

    def select(self, rows: Tensor) -> "Scene":
        """Return the scene of some of the images.

        Args:
            rows: (R,) positions; one may come more than once.

        Returns:
            The scene.
        """
        return replace(
            self,
            objective=self.objective.select(rows),
            images=self.images[rows],
            threat=self.threat.select(rows),
            seeds=[self.seeds[row] for row in rows.tolist()],
        )
