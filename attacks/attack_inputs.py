"""Hold what an attack is given, so that its stages hand on one thing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from robustcl.core.checks import check_images, plain_tensor
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective
from robustcl.core.threat import Threat


@dataclass(frozen=True, eq=False)
class AttackInputs:
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

    def select(self, rows: Tensor) -> "AttackInputs":
        """Return the attack inputs of some of the images.

        Args:
            rows: (R,) positions; one may come more than once.

        Returns:
            The attack inputs.
        """
        return replace(
            self,
            objective=self.objective.select(rows),
            images=self.images[rows],
            threat=self.threat.select(rows),
            seeds=[self.seeds[row] for row in rows.tolist()],
        )


def attack_inputs(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    seeds: Sequence[int] | None,
    batch_size: int,
) -> AttackInputs:
    """Check what an attack is given.

    Args:
        objective: What is raised.
        images: (B, C, H, W) in the box.
        threat: What is allowed.
        seeds: One seed per image; None for 0, 1, ...
        batch_size: Images per model call.

    Returns:
        The attack inputs; images and budgets are copied where no gradient can be taken of them.

    Raises:
        InputError: When there is no image, one is outside the box or not finite, or seeds are too
            few.
    """
    model, eps = objective.classifier, threat.eps
    seen = check_images(images, None if model is None else model.image_shape, box=threat.box)
    chosen = list(range(len(images)) if seeds is None else seeds)
    if len(chosen) != len(images):
        raise InputError(
            f"{len(images)} images with {len(chosen)} seeds; give at least one, paired"
        )
    if isinstance(eps, Tensor):
        threat = replace(threat, eps=plain_tensor(eps.detach()))
    return AttackInputs(objective, seen.detach(), threat, chosen, batch_size)
