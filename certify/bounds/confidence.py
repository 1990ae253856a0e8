"""Confidence bounds for means and shares."""

from collections.abc import Sequence

import numpy as np

from robustcl.core.errors import InputError
from robustcl.core.special_functions import betaincinv, logsumexp

CAP = 0.75  # largest share of the capital at stake
STEPS, CLOSE = 40, 1e-6  # of the search


def clopper_pearson_lower_bound(successes: int, trials: int, *, alpha: float) -> float:
    """Bound a probability from below by the exact binomial test.

    Args:
        successes: Number of successes.
        trials: Number of independent trials, fixed beforehand.
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
    return float(betaincinv(successes, trials - successes + 1, alpha)) * (1.0 - 1e-12)


def empirical_bernstein_lower_bound(samples: np.ndarray, *, alpha: float) -> np.ndarray:
    """Bound the means of variables in [0, 1] from below by their sample variances.

    mean - sqrt(2 V L / n) - 7 L / (3 (n - 1)) with L = log(2 / alpha) and the unbiased sample
    variance V. Looser than betting, but a formula.

    Args:
        samples: (n, J) in [0, 1]: n >= 2 independent draws of J variables, which may depend on one
            another; n fixed beforehand.
        alpha: Each bound exceeds its mean with probability at most alpha.

    Returns:
        (J,) lower bounds >= 0.

    Raises:
        InputError: When there are fewer than two samples, or one is outside [0, 1].

    Reference:
        Maurer and Pontil, Empirical Bernstein Bounds and Sample Variance Penalization, COLT 2009,
        theorem 4.
    """
    check_unit_samples(samples)
    count = len(samples)
    if count < 2:
        raise InputError("the empirical Bernstein bound needs at least two samples")
    log = np.log(2.0 / alpha)
    variances = samples.var(axis=0, ddof=1) + 1e-15
    width = np.sqrt(2.0 * variances * log / count) + 7.0 * log / (3.0 * (count - 1))
    return np.maximum(samples.mean(axis=0) - width - 1e-15 * count, 0.0)


def betting_lower_bound(samples: np.ndarray, *, alpha: float) -> np.ndarray:
    """Bound the means of variables in [0, 1] from below by betting against smaller means.

    A gambler who bets lambda_i (X_i - m), with lambda_i fixed by earlier samples and at most
    .75 / m, has a nonnegative martingale while the mean is m, which reaches 1/alpha with
    probability at most alpha. The capital falls with m, so the bound is found by bracketing; what
    is returned is the end at which the capital is verified to exceed 1/alpha.

    Args:
        samples: (n, J) in [0, 1]: n independent draws of J variables, which may depend on one
            another; n fixed beforehand, since the stakes are sized by it.
        alpha: Each bound exceeds its mean with probability at most alpha.

    Returns:
        (J,) lower bounds.

    Raises:
        InputError: When a sample is outside [0, 1].

    Reference:
        Waudby-Smith and Ramdas, Estimating Means of Bounded Random Variables by Betting, JRSS B
        2023, equations 24 to 26.
    """
    check_unit_samples(samples)
    stakes = _stakes(samples, alpha)
    width = samples.shape[1]
    low, high = np.zeros(width), np.ones(width)
    guess = np.sqrt(2.0 * samples.var(axis=0) * np.log(1.0 / alpha) / len(samples))
    guesses = [samples.mean(axis=0) - factor * guess for factor in (1.3, 0.9)]
    # Excess of the log capital over log(1/alpha) at both ends; halved where an end stays (Illinois
    # rule), so that the other one moves too. Only `low` is returned, and it is always verified.
    above, below = np.full(width, np.nan), np.full(width, np.nan)
    side = np.zeros(width)
    for step in range(STEPS):
        middle = guesses[step] if step < 2 else low + (high - low) * above / (above - below)
        middle = np.where((middle > low) & (middle < high), middle, (low + high) / 2.0)
        excess = _excess(samples, stakes, middle, alpha)
        up = excess > 0
        low, high = np.where(up, middle, low), np.where(up, high, middle)
        above = np.where(up, excess, np.where(side < 0, above / 2.0, above))
        below = np.where(up, np.where(side > 0, below / 2.0, below), excess)
        side = np.where(up, 1.0, -1.0)
        if ((high - low) < CLOSE * (1.0 - low)).all():
            break
    return low


def betting_exceeds(samples: np.ndarray, means: np.ndarray, *, alpha: float) -> np.ndarray:
    """Tell which variables are shown by `betting_lower_bound` to have a mean above a given one.

    One evaluation of the capital instead of a search.

    Args:
        samples: (n, J) in [0, 1], as for `betting_lower_bound`.
        means: (J,) in [0, 1].
        alpha: A mean that is not above is reported with probability at most alpha.

    Returns:
        (J,) True where the capital against the mean exceeds 1/alpha.
    """
    check_unit_samples(samples)
    return _excess(samples, _stakes(samples, alpha), means, alpha) > 0


def check_unit_samples(samples: np.ndarray) -> None:
    """Refuse samples outside [0, 1].

    Args:
        samples: Any shape.

    Raises:
        InputError: When there is none, or one is outside or NaN.
    """
    if samples.size == 0 or not (samples.min() >= 0.0 and samples.max() <= 1.0):
        raise InputError("the bound needs at least one sample, and all in [0, 1]; rescale them")


def _stakes(samples: np.ndarray, alpha: float) -> np.ndarray:
    # Stakes that would be best for the variance of the samples before.
    count = len(samples)
    order = np.arange(1, count + 1)[:, None]
    means = (0.5 + np.cumsum(samples, axis=0)) / (order + 1)
    variances = (0.25 + np.cumsum((samples - means) ** 2, axis=0)) / (order + 1)
    before = np.vstack([np.full((1, samples.shape[1]), 0.25), variances[:-1]])
    return np.sqrt(2.0 * np.log(1.0 / alpha) / (count * before))


def _excess(samples: np.ndarray, stakes: np.ndarray, means: np.ndarray, alpha: float) -> np.ndarray:
    bets = np.minimum(stakes, CAP / np.maximum(means, 1e-12))
    return np.log1p(bets * (samples - means)).sum(axis=0) - (np.log(1.0 / alpha) + 1e-9)


_LARGEST = 0.98  # of the stakes; below 1, or a single zero would ruin the gambler


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
    smallest = min(np.sqrt(2.0 * np.log(1.0 / alpha) / max(horizon, 1)), _LARGEST)
    return _LARGEST * 0.5 ** np.arange(1 + int(np.ceil(np.log2(_LARGEST / smallest))))


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
