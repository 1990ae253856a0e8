"""Give intervals by drawing the images again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.calibration.checks import check_count, check_differences
from robustcl.core.errors import InputError

Statistic = Callable[[Tensor], float]


@dataclass(frozen=True)
class Interval:
    """Hold a value and the range in which 95 % of the redrawn ones lie.

    Args:
        value: On all images.
        low: 2.5 % quantile.
        high: 97.5 % quantile.
    """

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> int:
        """1 when the whole interval is above 0, -1 when below, else 0: undecided."""
        return int(self.low > 0) - int(self.high < 0)


def bootstrap(statistic: Statistic, count: int, *, draws: int = 500, seed: int = 0) -> Interval:
    """Compute a statistic on images drawn with replacement.

    For a paired comparison give the difference as one statistic of the same rows: what the images
    have in common then cancels. Errors of calibration are biased upwards by drawing with
    replacement; in a difference most of it cancels.

    Args:
        statistic: Of (R,) rows of the images.
        count: Number of images, N.
        draws: Draws.
        seed: Seed of the draws; the same seed draws the same images for every statistic.

    Returns:
        The value on all rows and its percentile interval.

    Raises:
        InputError: When there are no images or draws, or the statistic is not finite.
    """
    check_count("images", count)
    check_count("draws", draws)
    generator = torch.Generator().manual_seed(seed)
    values = [statistic(torch.randint(count, (count,), generator=generator)) for _ in range(draws)]
    value = statistic(torch.arange(count))
    found = torch.tensor([value, *values], dtype=torch.float64)
    if not bool(torch.isfinite(found).all()):
        bad = float(found[~torch.isfinite(found)][0])
        raise InputError(f"the statistic of {count} images is {bad:g}; leave out what makes it so")
    low, high = found[1:].quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(value, low, high)


def paired_mean(differences: Sequence[Tensor], *, draws: int = 2000, seed: int = 0) -> Interval:
    """Give the interval of a mean of per-image differences, over several groups of images.

    Args:
        differences: Per group (as of a training seed), (N,) differences of the same N images; they
            are averaged image by image, as the groups share the images.
        draws: Draws.
        seed: Seed of the draws.

    Returns:
        The mean and its interval over images, for the given groups.

    Raises:
        InputError: When there is no group, the groups are not of the same images, or a difference
            is not finite.
    """
    groups = [check_differences(part) for part in differences]
    shapes = sorted({len(part) for part in groups})
    if len(shapes) != 1:
        raise InputError(f"groups of {shapes or 'no'} images; give 1 or more of the same images")
    mean = torch.stack(groups).mean(dim=0)
    return bootstrap(lambda rows: float(mean[rows].mean()), len(mean), draws=draws, seed=seed)
