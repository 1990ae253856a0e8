"""Confidence bounds by simulation: each misses as rarely as it says, and wrong ones are caught."""

import numpy as np
import pytest
from scipy.stats import beta, binom

from certify.bounds.confidence import (
    betting_exceeds,
    betting_lower_bound,
    clopper_pearson_lower_bound,
    empirical_bernstein_lower_bound,
)
from certify.bounds.confidence_sequence import (
    betting_confidence_sequence,
    log_capital,
    log_growth,
    stake_shares,
)
from robustcl import InputError

RUNS, DELTA = 20_000, 0.05
ALLOWED = int(binom.ppf(0.999, RUNS, DELTA))  # misses of a bound that is just valid

# Name to (draws of shape, mean): symmetric, skewed to both sides, nearly constant, of two values.
LAWS = {
    "uniform": (lambda g, shape: g.random(shape), 0.5),
    "arcsine": (lambda g, shape: g.beta(0.5, 0.5, shape), 0.5),
    "left": (lambda g, shape: g.beta(9.0, 0.6, shape), 9.0 / 9.6),
    "right": (lambda g, shape: g.beta(0.3, 6.0, shape), 0.3 / 6.3),
    "coin": (lambda g, shape: (g.random(shape) < 0.9).astype(float), 0.9),
    "rare zero": (lambda g, shape: (g.random(shape) < 0.985).astype(float), 0.985),
    "rare one": (lambda g, shape: (g.random(shape) < 0.03).astype(float), 0.03),
}


def draws(law: str, n: int) -> tuple[np.ndarray, float]:
    function, mean = LAWS[law]
    return function(np.random.default_rng(0), (n, RUNS)), mean


def eighth_of_hoeffding(samples: np.ndarray, *, alpha: float) -> np.ndarray:
    return samples.mean(axis=0) - np.sqrt(np.log(1.0 / alpha) / (2.0 * len(samples))) / 8.0


def misses(bound, law: str, n: int = 80) -> int:
    samples, mean = draws(law, n)
    return int((bound(samples, alpha=DELTA) > mean).sum())


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("bound", [betting_lower_bound, empirical_bernstein_lower_bound])
def test_bounds_of_means_cover(bound, law: str) -> None:
    assert misses(bound, law) <= ALLOWED


@pytest.mark.parametrize("p", [0.3, 0.5, 0.9, 0.985])
def test_clopper_pearson_covers_and_is_tight(p: float) -> None:
    counts = np.random.default_rng(0).binomial(100, p, size=RUNS)
    bounds = np.array([clopper_pearson_lower_bound(k, 100, alpha=DELTA) for k in range(101)])
    assert (bounds[counts] > p).sum() <= ALLOWED
    # Just below the bound of k successes, k or more have probability alpha.
    assert binom.sf(89, 100, bounds[90]) == pytest.approx(DELTA, rel=1e-6)
    assert binom.sf(89, 100, bounds[90]) <= DELTA


def ever_misses(law: str, n: int = 150) -> int:
    samples, mean = draws(law, n)
    shares = stake_shares(n, alpha=DELTA)
    growth, wrong = np.zeros((RUNS, len(shares))), np.zeros(RUNS, dtype=bool)
    for row in samples:
        growth += log_growth(row[None], np.full(RUNS, mean), shares)
        wrong |= log_capital(growth) > np.log(1.0 / DELTA)
    return int(wrong.sum())


@pytest.mark.parametrize("law", ["uniform", "left", "right", "coin", "rare one"])
def test_the_confidence_sequence_covers_at_all_times_at_once(law: str) -> None:
    assert ever_misses(law) <= ALLOWED


def test_a_hoeffding_width_eight_times_too_small_is_caught() -> None:
    assert misses(eighth_of_hoeffding, "coin") > 2 * ALLOWED


@pytest.mark.parametrize("law", ["coin", "rare one"])
def test_peeking_with_clopper_pearson_is_caught(law: str) -> None:
    samples, mean = draws(law, 150)
    counts = np.cumsum(samples, axis=0)
    trials = np.arange(1, 151)[:, None]
    bounds = beta.ppf(DELTA, np.maximum(counts, 1e-9), trials - counts + 1)
    looked = bounds[9::10] > mean
    assert looked[-1].sum() <= ALLOWED < 1.5 * ALLOWED < looked.any(axis=0).sum()


def test_the_sequence_is_where_the_capital_crosses() -> None:
    samples = np.random.default_rng(1).beta(5.0, 1.0, size=(60, 3))
    shares, log = stake_shares(60, alpha=0.01), np.log(100.0)
    bounds = betting_confidence_sequence(samples, alpha=0.01)
    assert bounds.shape == (60, 3) and (np.diff(bounds, axis=0) >= 0).all()
    some = betting_confidence_sequence(samples, alpha=0.01, times=[20, 60])
    np.testing.assert_allclose(some[1], bounds[-1], atol=0.01)
    for time in (20, 60):
        past, bound = samples[:time], bounds[time - 1]
        assert (log_capital(log_growth(past, bound + 1e-6, shares)) < log).all()


def test_the_search_finds_the_crossing_of_a_slow_bisection() -> None:
    for seed, n in enumerate((5, 40, 1500)):
        samples = np.random.default_rng(seed).beta(20.0, 1.0, size=(n, 30))
        low, high = np.zeros(30), np.ones(30)
        for _ in range(50):
            middle = (low + high) / 2.0
            shown = betting_exceeds(samples, middle, alpha=0.001)
            low, high = np.where(shown, middle, low), np.where(shown, high, middle)
        found = betting_lower_bound(samples, alpha=0.001)
        assert (found <= low + 1e-12).all()
        assert ((low - found) <= 1e-4 * (1.0 - low)).all()


def test_betting_is_tighter_than_bernstein_and_both_converge() -> None:
    samples = np.random.default_rng(0).beta(9.0, 0.6, size=(3000, 20))
    loose = empirical_bernstein_lower_bound(samples, alpha=0.001)
    tight = betting_lower_bound(samples, alpha=0.001)
    assert (loose < tight).all() and (tight < samples.mean(axis=0)).all()
    assert (loose > samples.mean(axis=0) - 0.03).all()


def test_samples_outside_the_unit_interval_are_refused() -> None:
    for bad in (np.array([[1.1]]), np.array([[-0.1]]), np.array([[np.nan]]), np.empty((0, 1))):
        for bound in (betting_lower_bound, empirical_bernstein_lower_bound):
            with pytest.raises(InputError, match="0, 1"):
                bound(bad, alpha=DELTA)
    with pytest.raises(InputError, match="impossible"):
        clopper_pearson_lower_bound(4, 3, alpha=DELTA)
