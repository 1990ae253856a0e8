"""Bound means from below with a given confidence."""

import numpy as np
from scipy.stats import beta

from robustcl.errors import InputError


def clopper_pearson_lower_bound(successes: int, trials: int, *, alpha: float) -> float:
    """Bound a probability from below by the exact binomial test.

    Args:
        successes: Number of successes.
        trials: Number of independent trials.
        alpha: The bound exceeds the truth with probability at most alpha.

    Returns:
        The bound, 0 without successes.

    Raises:
        InputError: When the counts are impossible.

    Reference:
        Clopper and Pearson, Biometrika 1934.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise InputError(f"{successes} successes of {trials} trials are impossible")
    if successes == 0:
        return 0.0
    return float(beta.ppf(alpha, successes, trials - successes + 1)) * (1.0 - 1e-12)


def betting_lower_bound(
    samples: np.ndarray, *, alpha: float, cap: float = 0.75, steps: int = 50
) -> np.ndarray:
    """Bound the means of variables in [0, 1] from below by betting against smaller means.

    A gambler who bets lambda_i (X_i - m), with lambda_i fixed by earlier samples and at most
    cap/m, has a nonnegative martingale while the mean is m, which reaches 1/alpha with
    probability at most alpha. The capital falls with m, so the bound is found by bisection; what
    is returned is the end at which the capital is verified to exceed 1/alpha.

    Args:
        samples: (n, J) in [0, 1]: n independent draws of J variables, which may depend on one
            another.
        alpha: Each bound exceeds its mean with probability at most alpha.
        cap: Largest share of the capital at stake.
        steps: Of the bisection.

    Returns:
        (J,) lower bounds.

    Raises:
        InputError: When a sample is outside [0, 1].

    Reference:
        Waudby-Smith and Ramdas, Estimating Means of Bounded Random Variables by Betting, JRSS B
        2023, equations 24 to 26.
    """
    if samples.size == 0 or not (samples.min() >= 0.0 and samples.max() <= 1.0):
        raise InputError("betting needs at least one sample, and all in [0, 1]")
    count = len(samples)
    order = np.arange(1, count + 1)[:, None]
    means = (0.5 + np.cumsum(samples, axis=0)) / (order + 1)
    variances = (0.25 + np.cumsum((samples - means) ** 2, axis=0)) / (order + 1)
    before = np.vstack([np.full((1, samples.shape[1]), 0.25), variances[:-1]])
    stakes = np.sqrt(2.0 * np.log(1.0 / alpha) / (count * before))
    low, high = np.zeros(samples.shape[1]), np.ones(samples.shape[1])
    for _ in range(steps):
        middle = (low + high) / 2.0
        bets = np.minimum(stakes, cap / np.maximum(middle, 1e-12))
        wealth = np.log1p(bets * (samples - middle)).sum(axis=0)
        ruled_out = wealth > np.log(1.0 / alpha) + 1e-9
        low, high = np.where(ruled_out, middle, low), np.where(ruled_out, high, middle)
    return low
