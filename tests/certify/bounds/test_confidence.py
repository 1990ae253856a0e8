"""Confidence bounds by simulation: each misses as rarely as it says, and wrong ones are caught."""

import importlib
import itertools

import numpy as np
import pytest
from scipy.stats import beta, binom

from robustcl.certify.bounds.confidence import (
    betting_confidence_sequence,
    betting_exceeds,
    betting_lower_bound,
    clopper_pearson_lower_bound,
    empirical_bernstein_lower_bound,
    log_capital,
    log_growth,
    stake_shares,
)
from robustcl.core.errors import InputError

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


def every_sequence(n: int, values, weights) -> tuple[np.ndarray, np.ndarray, float]:
    """All sequences (n, J) of n draws from a law of few values, their weights, and the mean."""
    places = np.array(list(itertools.product(range(len(values)), repeat=n))).T
    return (
        np.asarray(values)[places],
        np.asarray(weights)[places].prod(axis=0),
        float(np.dot(values, weights)),
    )


SMALL_LAWS = [
    ((0.0, 1.0), (0.3, 0.7)),
    ((0.0, 1.0), (0.9, 0.1)),
    ((0.0, 1.0), (0.02, 0.98)),
    ((0.1, 0.6, 1.0), (0.25, 0.25, 0.5)),
]


@pytest.mark.parametrize("values, weights", SMALL_LAWS)
@pytest.mark.parametrize("alpha", [0.3, 0.01])
def test_betting_is_a_fair_game_by_counting_all_sequences(values, weights, alpha: float) -> None:
    # Summed over all sequences, the capital against the true mean is what one began with. That
    # fails if a stake knows the sample it is put on, or if a start of more than 1 is allowed.
    module = importlib.import_module("robustcl.certify.bounds.confidence")
    samples, share, mean = every_sequence(12 if len(values) == 2 else 8, values, weights)
    means = np.full(len(share), mean)
    excess = module._excess(samples, module._stakes(samples, alpha), means, alpha)
    assert float(share @ np.exp(excess)) == pytest.approx(alpha, rel=1e-8)
    assert float(share @ np.exp(excess)) <= alpha
    missed = betting_exceeds(samples, means, alpha=alpha)
    assert float(share @ missed) <= alpha
    assert np.array_equal(missed, excess > 0)


@pytest.mark.parametrize("values, weights", SMALL_LAWS)
def test_capital_spread_over_stakes_is_a_fair_game(values, weights) -> None:
    n = 12 if len(values) == 2 else 8
    samples, share, mean = every_sequence(n, values, weights)
    shares = stake_shares(n, alpha=DELTA)
    assert len(shares) > 1 and shares.max() < 1
    growth = log_growth(samples, np.full(len(share), mean), shares)
    assert float(share @ np.exp(log_capital(growth))) == pytest.approx(1.0, rel=1e-9)


def test_the_bernstein_bound_is_the_formula_of_the_theorem() -> None:
    # 1 000 samples of which 900 are 1: V = 90 / 999 with n - 1, as in theorem 4.
    samples = np.repeat([1.0, 0.0], [900, 100])[:, None]
    for alpha in (0.001, 0.05):
        log = np.log(2 / alpha)
        exact = 0.9 - np.sqrt(2 * (90 / 999) * log / 1000) - 7 * log / (3 * 999)
        found = float(empirical_bernstein_lower_bound(samples, alpha=alpha)[0])
        assert found == pytest.approx(exact, abs=1e-11)
        assert found <= exact
    few = np.array([[1.0], [1.0], [0.9], [1.0], [1.0], [1.0]])  # no bound is negative
    assert empirical_bernstein_lower_bound(few, alpha=0.05).tolist() == [0.0]


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
        # What is ruled out at one time stays so: the capital has reached 1/alpha by then.
        ever = [log_capital(log_growth(past[:k], bound, shares)) for k in range(1, time + 1)]
        assert (np.max(ever, axis=0) > log).all()


def test_a_search_that_is_cut_short_ends_at_a_mean_that_is_ruled_out() -> None:
    samples = np.random.default_rng(1).beta(5.0, 1.0, size=(200, 4))
    shares = stake_shares(200, alpha=0.01)
    for steps in (3, 5):
        bounds = betting_confidence_sequence(samples, alpha=0.01, times=[200], steps=steps)
        capital = log_capital(log_growth(samples, bounds[0], shares))
        assert (bounds > 0.5).all() and (capital > np.log(100.0)).all()


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
        assert betting_exceeds(samples, found, alpha=0.001)[found > 0].all()
        assert (found > 0).mean() > (0.9 if n > 5 else -1.0)
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
