"""Measure clean accuracy before anything slow, and tell whether it makes sense."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from robustcl.core.abstention import predict
from robustcl.core.batching import padded
from robustcl.core.classifier import Classifier
from robustcl.core.modules import frozen
from robustcl.core.special_functions import betaincinv
from robustcl.data.dataset import Dataset

MOST = 1000  # images of a first look


@dataclass(frozen=True)
class FirstLook:
    """Hold the clean accuracy of some images.

    Args:
        images: How many, at even distances in the data.
        right: How many the classifier gets right.
        seconds: Of a forward pass, per image.
    """

    images: int
    right: int
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share that is right."""
        return self.right / self.images

    @property
    def interval95(self) -> tuple[float, float]:
        """Its exact 95 % interval (Clopper-Pearson)."""
        # As `runs.summary.interval95`, whose library takes longer to load than this looks.
        right, wrong = self.right, self.images - self.right
        low = float(betaincinv(right, wrong + 1, 0.025)) if right else 0.0
        return low, float(betaincinv(right + 1, wrong, 0.975)) if wrong else 1.0


def first_look(
    classifier: Classifier,
    dataset: Dataset,
    *,
    batch_size: int,
    device: str | torch.device = "cpu",
    most: int = MOST,
) -> FirstLook:
    """Classify some images, in a second or so.

    Args:
        classifier: The model; left as it was, on the device it was on.
        dataset: Images with labels; without, none counts as right.
        batch_size: Images per model call.
        device: Where to compute.
        most: Images at most.

    Returns:
        What was found. An image whose scores are not finite counts as wrong.
    """
    home, right, seconds = classifier.encoder.mean.device, 0, 0.0
    rows = np.linspace(0, len(dataset) - 1, min(most, len(dataset))).round().astype(np.int64)
    size = min(batch_size, len(rows))
    try:
        classifier.to(device)
        with torch.no_grad(), frozen(classifier):
            for start in range(0, len(rows), size):
                batch = dataset.batch(rows[start : start + size]).to(device)
                begun = time.monotonic()
                scores = padded(classifier, batch.images, batch_size=size)
                known = batch.labels >= 0
                right += int(((predict(scores) == batch.labels) & known).sum())
                seconds += time.monotonic() - begun
    finally:
        classifier.to(home)
    return FirstLook(len(rows), right, seconds / len(rows))


def chance_warning(look: FirstLook, *, own: float | None, classes: int) -> str | None:
    """Tell whether the accuracy is what guessing gives, though the head was good elsewhere.

    Args:
        look: On the data that is measured.
        own: Accuracy of the head on the data it was fitted for; None where it is not known.
        classes: Number of classes.

    Returns:
        One sentence; None where the accuracy is clearly above chance, or not clearly below `own`.
    """
    low, high = look.interval95
    chance = 1.0 / classes
    if own is None or low > chance or high >= own:
        return None
    return (
        f"the accuracy {look.accuracy:.1%} on {look.images} images is near chance ({chance:.1%}), "
        f"but the head had {own:.1%} on data it was fitted for: check that classes, normalization, "
        "channel order and image size are those of training"
    )
