"""List a split before any of its images is decoded."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from robustcl.data.dataset import Dataset
from robustcl.data.streamed_images import Pixels, StreamedImages

Load = Callable[[np.ndarray], np.ndarray | StreamedImages | Pixels]


@dataclass(frozen=True, eq=False)
class Listing:
    """State a split whose images are loaded later, and only those that are wanted.

    Args:
        name: What is listed, for messages and manifests.
        labels: (N,) integers from 0; -1 throughout where there are none.
        class_names: One name per class; may be empty.
        load: Rows of the split to (B, H, W, C) images, in that order.
        labeled: Whether there are labels.
        notes: What a person should be told.
        matched: Whether labels are positions among a classifier's classes, -1 for none of them.
    """

    name: str
    labels: np.ndarray
    class_names: tuple[str, ...]
    load: Load
    labeled: bool = True
    notes: tuple[str, ...] = ()
    matched: bool = False

    @property
    def usable(self) -> np.ndarray:
        """(M,) the rows whose class the classifier has; all where there is none to match."""
        return np.flatnonzero(self.labels >= 0) if self.matched else np.arange(len(self.labels))

    def dataset(self, rows: np.ndarray | None = None) -> Dataset:
        """Load images.

        Args:
            rows: (B,) which, in the order wanted; None for all.

        Returns:
            The data set; it knows its rows where some were chosen.
        """
        chosen = np.arange(len(self.labels)) if rows is None else rows
        found, notes = self.load(chosen), self.notes
        if isinstance(found, Pixels):
            if len(found.kept) < len(chosen):
                rows = chosen = chosen[found.kept]
            notes = (*notes, *found.notes)
            found = found.images
        return Dataset(
            name=self.name,
            images=found,
            labels=self.labels[chosen],
            class_names=self.class_names,
            labeled=self.labeled,
            rows=rows,
            notes=notes,
        )


def part_of(listing: Listing, rows: np.ndarray) -> Listing:
    """Restrict a listing to some rows, which become rows 0, 1, ... of the new one.

    Args:
        listing: The listing.
        rows: (M,) which, in the order wanted.

    Returns:
        The smaller listing.
    """
    return replace(listing, labels=listing.labels[rows], load=lambda few: listing.load(rows[few]))
