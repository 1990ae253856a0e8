"""Count gradient evaluations, image by image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.objectives import Objective


@dataclass(frozen=True, eq=False, kw_only=True)
class CountedObjective(Objective):
    """An objective that counts every backward pass to its images.

    Args:
        inner: The objective that does the work.
        tally: (N,) integers on the CPU, raised in place.
        rows: (B,) which entry of the tally each image raises.
    """

    inner: Objective
    tally: Tensor
    rows: Tensor

    def scores(self, images: Tensor) -> Tensor:
        """Return class scores, counting gradients.

        Args:
            images: (B, C, H, W).

        Returns:
            (B, K) scores.
        """
        return self.inner.scores(_watch(images, self.tally, self.rows))

    def select(self, rows: Tensor) -> Objective:
        """Return the counted objective for a subset of the images.

        Args:
            rows: (R,) positions; one may come more than once.

        Returns:
            An objective that raises the same tally.
        """
        chosen = rows.to(self.rows.device)
        return counted(self.inner.select(rows), tally=self.tally, rows=self.rows[chosen])


def counted(objective: Objective, *, tally: Tensor, rows: Tensor) -> CountedObjective:
    """Return the objective with every backward pass to its images counted.

    Args:
        objective: For B images.
        tally: (N,) integers on the CPU, raised in place.
        rows: (B,) which entry of the tally each image raises.

    Returns:
        An objective with the same values and gradients.
    """
    return CountedObjective(
        lambda images: objective.margin(_watch(images, tally, rows)),
        objective.classifier,
        objective.targets,
        objective.aim,
        inner=objective,
        tally=tally,
        rows=rows,
    )


def _watch(images: Tensor, tally: Tensor, rows: Tensor) -> Tensor:
    if not (images.requires_grad and torch.is_grad_enabled()):
        return images
    # Where a batch has other rows than the objective, nobody knows whose they are: round up.
    share = -(-len(images) // len(rows))

    def count(gradient: Tensor) -> None:
        del gradient
        tally.index_add_(0, rows, torch.full_like(rows, share))

    watched = images.view_as(images)
    watched.register_hook(count)
    return watched
