"""Count what other people's attacks ask of a classifier, and keep the global generators."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


class CountedModel(nn.Module):
    """Pass images on to a classifier and count, per image, forward and backward passes.

    A call is booked on the images that take part (see `only`), one pass each where it has a row
    for each of them, else in equal shares, so that the sum is always right. Counters are state, as
    the packages keep the model for themselves and hand nothing through.

    Args:
        classifier: The model; images are cast to its type, scores back.
        images: (B, C, H, W) the clean images.
        shifts: Whether to subtract each image's lowest score, as a constant without a gradient.
            No margin, softmax or ranking depends on it; formulas that take 0 for the score of a
            masked class do.
    """

    def __init__(self, classifier: nn.Module, images: Tensor, *, shifts: bool = False) -> None:
        super().__init__()
        self.classifier = classifier
        self.dtype = images.dtype
        self.shifts = shifts
        self.forwards = torch.zeros(len(images), dtype=torch.float64)
        self.gradients = torch.zeros(len(images), dtype=torch.float64)
        self.shared: set[str] = set()  # 'gradients' once they had to be shared out
        self._active = torch.arange(len(images))
        self._silent = False
        self._places: dict[bytes, list[int]] = {}
        for place, row in enumerate(_rows(images)):
            self._places.setdefault(row, []).append(place)

    def forward(self, images: Tensor) -> Tensor:
        """Return the classifier's scores.

        Args:
            images: (R, C, H, W).

        Returns:
            (R, K) scores of the images' type.
        """
        active, rows = self._active, len(images)
        if not self._silent:
            self._book(self.forwards, active, rows, "forwards")
        scores = self.classifier(images.to(self.dtype)).to(images.dtype)
        if self.shifts:
            scores = scores - scores.detach().amin(dim=1, keepdim=True)
        if scores.requires_grad:
            scores.register_hook(lambda _: self._book(self.gradients, active, rows, "gradients"))
        return scores

    @contextmanager
    def only(self, images: Tensor, *, silent: bool = False) -> Iterator[Tensor]:
        """Book what happens within the context on these clean images.

        Args:
            images: (R, C, H, W) rows of the clean images, bit for bit.
            silent: Whether forward passes are booked by the caller.

        Yields:
            (R,) positions; all of them where a row is none of the clean images.
        """
        free = {row: list(places) for row, places in self._places.items()}
        found = [free[row].pop(0) if free.get(row) else -1 for row in _rows(images)]
        before = self._active, self._silent
        if -1 not in found:
            self._active = torch.tensor(found)
        self._silent = silent
        try:
            yield self._active
        finally:
            self._active, self._silent = before

    def cost(self) -> tuple[Tensor, Tensor]:
        """Return what was spent, shares rounded up.

        Returns:
            (B,) int64 forward and (B,) int64 backward passes.
        """
        return self.forwards.ceil().long(), self.gradients.ceil().long()

    def _book(self, sums: Tensor, active: Tensor, rows: int, what: str) -> None:
        if rows % max(len(active), 1):
            self.shared.add(what)
        sums[active] += rows / max(len(active), 1)


def _rows(images: Tensor) -> list[bytes]:
    return [row.tobytes() for row in images.detach().float().cpu().numpy()]


@contextmanager
def generators_seeded(seeds: Sequence[int] | None) -> Iterator[int]:
    """Seed the global generators of torch, NumPy and Python, and restore all three on exit.

    Args:
        seeds: The first one is used; 0 without one.

    Yields:
        The seed, in [0, 2^31).
    """
    seed = (seeds[0] if seeds else 0) % 2**31
    numpy_state = np.random.get_state()  # noqa: NPY002 the packages use the global generators
    python_state = random.getstate()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            yield seed
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
