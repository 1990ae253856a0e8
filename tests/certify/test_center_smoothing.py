"""Center smoothing: coverage by simulation on maps whose answer is known."""

import math

import pytest
import torch
from scipy.stats import beta, binom
from scipy.stats import norm as normal
from torch import Tensor

from robustcl.certify._center_smoothing import Noise, center_smoothing, smoothed_centers
from robustcl.core.errors import InputError
from tests.affine import affine_classifier
from tests.network import small_classifier, some_images

MODULE = __import__("robustcl.certify._center_smoothing", fromlist=["center_smoothing"])
SIGMA, DELTA = 0.5, 0.15
LOOSE = Noise(sigma=SIGMA, n=200, alpha=0.2, batch_size=200)
REPEATS = 400


def sign(images: Tensor) -> Tensor:
    """+1 or -1 on a line, with probabilities Phi(+-x / sigma) under noise."""
    return torch.where(images.flatten(1)[:, :1] > 0, 1.0, -1.0)


def first(images: Tensor) -> Tensor:
    """The first pixel: normally distributed under noise."""
    return images.flatten(1)[:, :1]


def same(value: float, count: int = REPEATS, *, pixels: int = 1) -> Tensor:
    return torch.full((count, 1, 1, pixels), value, dtype=torch.float64)


def allowed(level: float, count: int = REPEATS) -> float:
    """The share of failures that simulation may show at this level, three errors up."""
    return level + 3 * math.sqrt(level * (1 - level) / count)


def test_the_budget_of_a_step_covers_the_known_answer() -> None:
    value = 0.6
    exact = value - SIGMA * float(normal.ppf(0.5 + DELTA))
    claim, centers = center_smoothing(sign, same(value), threshold=1.0, noise=LOOSE, delta=DELTA)
    assert not bool(centers.abstained.any()) and bool((centers.points == 1.0).all())
    wrong = float((claim.budget > exact).double().mean())
    assert 0.01 < wrong <= allowed(LOOSE.alpha / 2)
    assert float(claim.budget.median()) > 0.6 * exact
    assert (claim.guarantee, claim.norm) == ("probabilistic", "l2")
    assert claim.subject.startswith("center-smoothed model")


def test_the_simulation_sees_a_bound_without_confidence(monkeypatch: pytest.MonkeyPatch) -> None:
    def naive(successes: int, trials: int, *, alpha: float) -> float:
        return min(successes / trials, 1 - 1e-9)

    monkeypatch.setattr(MODULE, "clopper_pearson_lower_bound", naive)
    value = 0.6
    exact = value - SIGMA * float(normal.ppf(0.5 + DELTA))
    claim, _ = center_smoothing(sign, same(value), threshold=1.0, noise=LOOSE, delta=DELTA)
    assert float((claim.budget > exact).double().mean()) > 2 * allowed(LOOSE.alpha / 2)


def normal_mass(center: Tensor, mean: float, radius: Tensor) -> Tensor:
    offset = center - mean
    spread = torch.stack([offset + radius, offset - radius]) / SIGMA
    upper, lower = torch.special.ndtr(spread)
    return upper - lower


@pytest.mark.parametrize("eps", [0.0, 0.3, 0.6])
def test_the_ball_has_the_mass_it_needs(eps: float) -> None:
    needed = float(normal.cdf(eps / SIGMA + normal.ppf(0.5 + DELTA)))
    claim, centers = center_smoothing(first, same(0.4), eps=eps, noise=LOOSE, delta=DELTA)
    decided = torch.isfinite(claim.drift)
    mass = normal_mass(centers.points[:, 0], 0.4, claim.drift / 3)
    short = float((mass < needed)[decided].double().mean())
    assert 0.02 < short <= allowed(LOOSE.alpha / 2)
    assert float(decided.double().mean()) > 0.9
    # Without the shift by eps the ball would be too small nearly always.
    if eps:
        small, _ = center_smoothing(first, same(0.4), eps=0.0, noise=LOOSE, delta=DELTA)
        mass = normal_mass(centers.points[:, 0], 0.4, small.drift / 3)
        assert float((mass < needed).double().mean()) > 0.9


def test_the_ball_keeps_its_mass_when_the_image_moves() -> None:
    eps = 0.3
    claim, centers = center_smoothing(first, same(0.4), eps=eps, noise=LOOSE, delta=DELTA)
    for moved in (0.4 - eps, 0.4 + eps):
        mass = normal_mass(centers.points[:, 0], moved, claim.drift / 3)
        assert float((mass < 0.5 + DELTA).double().mean()) <= allowed(LOOSE.alpha / 2)


@pytest.mark.parametrize("direction", [-1.0, 1.0])
def test_answers_drift_by_no_more_than_claimed(direction: float) -> None:
    value, eps = 0.45, 0.2
    noise = Noise(sigma=SIGMA, n=400, alpha=0.2, batch_size=400)
    fresh = list(range(10_000, 10_000 + REPEATS))
    for function in (sign, first):
        claim, centers = center_smoothing(function, same(value), eps=eps, noise=noise, delta=DELTA)
        there = smoothed_centers(
            function, same(value + direction * eps), noise=noise, delta=DELTA, seeds=fresh
        )
        drift = (there.points - centers.points).norm(dim=1)
        lost = (drift > claim.drift) & ~there.abstained
        assert float(lost.double().mean()) <= allowed(noise.alpha)
        assert bool((claim.drift < 4.0).any())


def test_at_the_edge_the_answer_does_not_jump_and_past_it_does() -> None:
    # Where the mass of +1 is just 1/2 + delta, -1 is answered with probability at most alpha/4.
    noise = Noise(sigma=SIGMA, n=400, alpha=0.2, batch_size=400)
    edge = float(SIGMA * normal.ppf(0.5 + DELTA))
    there = smoothed_centers(sign, same(edge), noise=noise, delta=DELTA)
    jumped = (there.points[:, 0] < 0) & ~there.abstained
    assert float(jumped.double().mean()) <= allowed(noise.alpha / 4)
    claim, _ = center_smoothing(sign, same(0.6), threshold=1.0, noise=noise, delta=DELTA)
    # Planted: a budget without the confidence bound and without delta ends past the edge.
    beyond = smoothed_centers(sign, same(0.6 - 2.2 * float(claim.budget.max())), noise=noise)
    assert float((beyond.points[:, 0] < 0).double().mean()) > 0.5


def test_the_center_is_a_small_ball_of_half_the_mass() -> None:
    noise = Noise(sigma=SIGMA, n=400, alpha=0.2, batch_size=400)
    centers = smoothed_centers(first, same(0.4, 50), noise=noise, delta=DELTA)
    # The best center is the mean; 64 candidates come near it.
    assert float((centers.points - 0.4).abs().mean()) < 0.15 * SIGMA


@pytest.mark.parametrize(
    "n, alpha, delta", [(6, 0.00648, 0.3), (12, 0.04, 0.3), (200, 0.2, 0.15), (2000, 0.001, 0.07)]
)
def test_a_ball_of_enough_mass_holds_the_samples_asked_for(
    n: int, alpha: float, delta: float
) -> None:
    # It fails if fewer than k of n samples, or none of the candidates, fall into the ball; k is the
    # largest number for which that is as rare as alpha / 4.
    count = MODULE._enough(Noise(n=n, alpha=alpha), delta)
    candidates = (0.5 - delta) ** min(64, n)
    fails = [binom.cdf(k - 1, n, 0.5 + delta) + candidates for k in (count, count + 1)]
    assert fails[0] <= alpha / 4 < fails[1]


def test_the_answer_is_withheld_by_an_exact_bound_on_fresh_samples() -> None:
    noise, delta = Noise(sigma=SIGMA, n=300, alpha=0.2, batch_size=300), 0.08
    images = same(0.4, 120)
    centers = smoothed_centers(first, images, noise=noise, delta=delta)
    count = MODULE._enough(noise, delta)
    for row, point in enumerate(centers.points):
        generator = torch.Generator().manual_seed(row)
        chosen, fresh = (
            MODULE.noisy_embeddings(first, images[row], noise, generator) for _ in range(2)
        )
        radii = (chosen[:64] - chosen[:, 0]).abs().sort(dim=1).values[:, count - 1]
        assert float(point) == float(chosen[radii.argmin()])
        inside = int(((fresh - point).abs() <= radii.min()).sum())
        mass = float(beta.ppf(noise.alpha / 4, inside, noise.n - inside + 1))
        assert bool(centers.abstained[row]) == (mass <= 0.5 - delta)
    assert 10 < int(centers.abstained.sum()) < 110


def test_the_model_abstains_where_the_slack_is_too_small() -> None:
    noise = Noise(sigma=SIGMA, n=200, alpha=0.001, batch_size=200)
    claim, centers = center_smoothing(first, same(0.4, 5), eps=0.1, noise=noise, delta=0.02)
    assert bool(centers.abstained.all()) and bool(torch.isinf(claim.drift).all())
    claim, _ = center_smoothing(first, same(0.4, 5), threshold=9.0, noise=noise, delta=0.02)
    assert claim.budget.tolist() == [0.0] * 5


def test_with_the_defaults_it_seldom_abstains() -> None:
    for pixels in (1, 16):
        images = same(0.4, 60, pixels=pixels)
        centers = smoothed_centers(lambda points: points.flatten(1), images)
        assert int(centers.abstained.sum()) <= 1


def test_embeddings_that_are_not_finite_are_far_from_all() -> None:
    def broken(images: Tensor) -> Tensor:
        values = first(images)
        return torch.where(values > 0.4, torch.nan, values)

    for value, abstains in ((0.5, True), (-1.0, False)):
        claim, centers = center_smoothing(
            broken, same(value, 5), threshold=9.0, noise=LOOSE, delta=DELTA
        )
        assert centers.abstained.tolist() == [abstains] * 5
        assert bool((claim.budget > 0).all()) != abstains


def test_a_budget_that_noise_cannot_cover_is_claimed_nothing() -> None:
    claim, centers = center_smoothing(first, same(0.4, 5), eps=9.0, noise=LOOSE, delta=DELTA)
    assert not bool(centers.abstained.any()) and bool(torch.isinf(claim.drift).all())


def test_the_two_directions_agree() -> None:
    images = same(0.6, 20)
    bound, _ = center_smoothing(first, images, eps=0.2, noise=LOOSE, delta=DELTA)
    for row, drift in enumerate(bound.drift.tolist()):
        back, _ = center_smoothing(
            first, images[:1], threshold=drift, noise=LOOSE, delta=DELTA, seeds=[row]
        )
        assert float(back.budget) == pytest.approx(0.2, abs=0.02)


def test_linf_is_the_corner() -> None:
    images = same(0.4, 3, pixels=4).view(3, 2, 1, 2)  # four numbers in two channels
    corner, _ = center_smoothing(first, images, eps=0.2, noise=LOOSE, delta=DELTA)
    linf, _ = center_smoothing(first, images, eps=0.1, norm="linf", noise=LOOSE, delta=DELTA)
    torch.testing.assert_close(linf.drift, corner.drift)
    corner, _ = center_smoothing(first, images, threshold=9.0, noise=LOOSE, delta=DELTA)
    linf, _ = center_smoothing(first, images, threshold=9.0, norm="linf", noise=LOOSE, delta=DELTA)
    assert bool((linf.budget > 0).all()) and bool((linf.budget <= corner.budget / 2).all())
    torch.testing.assert_close(linf.budget, corner.budget / 2)


def test_a_classifier_is_held_still_and_bounded_by_the_sphere() -> None:
    model, images = small_classifier().train(), some_images(3)
    noise = Noise(sigma=0.1, n=300, alpha=0.01)
    claim, centers = center_smoothing(model, images, eps=0.1, noise=noise, delta=DELTA)
    assert model.training
    model.eval()
    other, again = center_smoothing(model.embeddings, images, eps=0.1, noise=noise, delta=DELTA)
    torch.testing.assert_close(centers.points, again.points)
    torch.testing.assert_close(claim.drift, other.drift.clamp(max=2.0))
    assert bool((claim.drift <= 2.0).all()) and bool((claim.drift > 0).all())


def test_embeddings_off_the_sphere_may_drift_by_more_than_its_diameter() -> None:
    model = affine_classifier(dtype=torch.float32)
    model.encoder.backbone[1].weight.data *= 30.0  # pyright: ignore[reportIndexIssue]
    images = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    noise = Noise(sigma=0.5, n=300, alpha=0.01)
    claim, _ = center_smoothing(model, images, eps=0.1, noise=noise, delta=DELTA)
    plain, _ = center_smoothing(model.embeddings, images, eps=0.1, noise=noise, delta=DELTA)
    assert bool((claim.drift > 2.0).all())
    torch.testing.assert_close(claim.drift, plain.drift)


def test_seeds_decide_not_the_batch() -> None:
    images = same(0.4, 4)
    whole, _ = center_smoothing(
        first, images, eps=0.1, noise=LOOSE, delta=DELTA, seeds=[5, 6, 7, 8]
    )
    alone, _ = center_smoothing(first, images[:1], eps=0.1, noise=LOOSE, delta=DELTA, seeds=[7])
    assert float(whole.drift[2]) == float(alone.drift[0])


def test_what_makes_no_sense_is_refused() -> None:
    for options in ({"sigma": 0.0}, {"alpha": 0.7}, {"n": 1}, {"batch_size": 0}):
        with pytest.raises(InputError):
            Noise(**options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="delta"):
        smoothed_centers(first, same(0.4, 1), delta=0.5)
    with pytest.raises(InputError, match="too small"):
        smoothed_centers(first, same(0.4, 1), noise=Noise(n=5, alpha=0.001))
    with pytest.raises(InputError, match="seeds"):
        smoothed_centers(first, same(0.4, 2), seeds=[1])
    with pytest.raises(InputError, match="exactly one"):
        center_smoothing(first, same(0.4, 1))
