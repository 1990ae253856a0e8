"""Bound means while sampling goes on: valid at every time, so that one may stop when one likes.

The gambler of `betting_lower_bound` again, but with stakes that do not depend on when the game
ends: the capital is split over fixed stakes c / m, c = .98, .49, ..., and left to grow. While the
mean is at most m the total is a nonnegative supermartingale, which *ever* reaches 1/alpha with
probability at most alpha (Ville's inequality).
"""

from collections.abc import Sequence

import numpy as np

from robustcl.certify.bounds.confidence import check_unit_samples
from robustcl.core.special_functions import logsumexp

LARGEST = 0.98  # of the stakes; below 1, or a single zero would ruin the gambler


def stake_shares(horizon: int, *, alpha: float) -> np.ndarray:
    """Choose the stakes, as shares c of the largest possible one.

    By halves from .98 down to what the smallest difference asks for that `horizon` samples can
    show. Any choice is valid; this one loses at most a factor 4 / 3 or so of the growth.

    Args:
        horizon: The number of samples that will be drawn at most.
        alpha: Level of the test.

    Returns:
        (G,) shares in (0, 1).
    """
    smallest = min(np.sqrt(2.0 * np.log(1.0 / alpha) / max(horizon, 1)), LARGEST)
    return LARGEST * 0.5 ** np.arange(1 + int(np.ceil(np.log2(LARGEST / smallest))))


def log_growth(samples: np.ndarray, means: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return by how much each stake's log capital against a mean grows over some samples.

    Args:
        samples: (..., n, J) in [0, 1].
        means: (..., J) in (0, 1), the means that are bet against.
        shares: (G,) from `stake_shares`.

    Returns:
        (..., J, G) sums over the samples of log(1 + c (x / m - 1)).
    """
    returns = samples / means[..., None, :] - 1.0
    return np.log1p(returns[..., None] * shares).sum(axis=-3)


def log_capital(growth: np.ndarray) -> np.ndarray:
    """Add up the capital of all stakes, which started with equal parts.

    Args:
        growth: (..., G) sums of `log_growth`.

    Returns:
        (...) the log capital; above log(1/alpha) the mean is ruled out at level alpha, at any time.
    """
    return logsumexp(growth, axis=-1) - np.log(growth.shape[-1])


def betting_confidence_sequence(
    samples: np.ndarray,
    *,
    alpha: float,
    times: Sequence[int] | None = None,
    horizon: int | None = None,
    steps: int = 40,
) -> np.ndarray:
    """Bound means of variables in [0, 1] from below at every time at once.

    With probability at least 1 - alpha none of the bounds of a variable exceeds its mean: one may
    stop by any rule that looks at the samples so far, and use the bound of that moment.

    Args:
        samples: (n, J) in [0, 1]: independent draws of J variables, which may depend on one
            another.
        alpha: Each variable's sequence ever exceeds its mean with probability at most alpha.
        times: Numbers of samples, ascending, after which a bound is wanted; by default 1 to n.
        horizon: The number of samples at most, by which the stakes are chosen; n by default. It
            must not depend on the samples.
        steps: Of the bisection.

    Returns:
        (T, J) lower bounds, nondecreasing in time.

    Reference:
        Waudby-Smith and Ramdas, Estimating Means of Bounded Random Variables by Betting, JRSS B
        2023, sections 3 and 4 (capital processes; diversified stakes).
    """
    check_unit_samples(samples)
    shares = stake_shares(horizon or len(samples), alpha=alpha)
    bound = np.zeros(samples.shape[1])
    bounds = []
    for time in range(1, len(samples) + 1) if times is None else times:
        low, high = bound, np.ones_like(bound)
        for _ in range(steps):
            middle = (low + high) / 2.0
            capital = log_capital(log_growth(samples[:time], middle, shares))
            ruled_out = capital > np.log(1.0 / alpha) + 1e-9
            low, high = np.where(ruled_out, middle, low), np.where(ruled_out, high, middle)
        bound = low
        bounds.append(bound)
    return np.stack(bounds)
