"""Draw batches of labeled images with every class in them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.core.errors import InputError


@dataclass(frozen=True, eq=False)
class LabelBatches:
    """Hold what class-stratified batches are drawn from.

    Args:
        rows: Per class the rows of its labeled images.
        per_class: Images of each class in a batch.
    """

    rows: tuple[Tensor, ...]
    per_class: int

    def __len__(self) -> int:
        """Return the number of images in a batch."""
        return self.per_class * len(self.rows)


def label_batches(labels: Tensor, size: int) -> LabelBatches:
    """Prepare class-stratified batches.

    Args:
        labels: (N,) integer labels, -1 where unknown.
        size: Images wanted in a batch; rounded down to a multiple of the classes present, one
            image of each at least.

    Returns:
        What `draw_labeled` draws from.

    Raises:
        InputError: When fewer than two classes have labels.
    """
    classes = labels[labels >= 0].unique()
    if len(classes) < 2:
        raise InputError(f"labels of {len(classes)} class say nothing; give two classes or more")
    rows = tuple(torch.nonzero(labels == label)[:, 0] for label in classes)
    return LabelBatches(rows, max(size // len(classes), 1))


def draw_labeled(batches: LabelBatches, generator: torch.Generator) -> Tensor:
    """Draw one batch: the same number of every class, without repetition where a class suffices.

    Args:
        batches: From `label_batches`.
        generator: Source of randomness, on the device of the rows.

    Returns:
        Rows, one class after the other.
    """
    drawn = []
    for rows in batches.rows:
        order = torch.randperm(len(rows), generator=generator, device=rows.device)
        times = -(-batches.per_class // len(rows))
        drawn.append(rows[order.repeat(times)[: batches.per_class]])
    return torch.cat(drawn)
