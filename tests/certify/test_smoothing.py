"""Smoothing: problems with known answers, rates of wrong claims, invariances, abstention."""

import importlib
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.stats import binom
from scipy.stats import norm as normal
from torch import nn

from robustcl.certify import smoothing
from robustcl.certify.bounds.confidence import betting_lower_bound
from robustcl.certify.smoothed_margins import Form, Pairing, Smoothed
from robustcl.certify.smoothing_noise import choose_clip
from robustcl.certify.smoothing_samples import noise_streams, noisy_outputs
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError, UnsupportedError
from robustcl.models.heads import LinearHead, PrototypeHead
from tests.affine import affine_classifier, exact_distance
from tests.network import small_classifier, some_images


def test_vote_of_two_affine_classes_nearly_reaches_the_exact_distance() -> None:
    model = affine_classifier(2, dtype=torch.float32)
    images = torch.rand(8, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    exact = exact_distance(model, images, "l2")
    sigma = float(exact.mean())
    claim = smoothing(model, images, form="vote", sigma=sigma, n=4000)
    decided = claim.predicted >= 0
    assert torch.equal(claim.predicted[decided], model(images).argmax(1)[decided])
    assert bool((claim.radius <= exact).all())
    ceiling = sigma * float(normal.ppf(0.001 ** (1 / 4000)))
    near = torch.clamp(exact, max=ceiling)
    assert bool((claim.radius[decided] >= 0.6 * near[decided] - 0.1 * sigma).all())


def test_a_constant_embedding_has_the_closed_form() -> None:
    model = small_classifier()
    last = model.encoder.backbone[-1]  # pyright: ignore[reportIndexIssue]
    assert isinstance(model.head, PrototypeHead)
    nn.init.zeros_(last.weight)
    claim = smoothing(model, some_images(2), sigma=0.5, n=20000, form="mean")
    point = last.bias.detach().double() / last.bias.detach().double().norm()
    weight = model.head.weight.double()
    top = int((weight @ point).argmax())
    gaps = (weight[top] - weight) @ point / (weight[top] - weight).norm(dim=1).clamp_min(1e-9)
    gaps[top] = 1.0
    exact = 0.5 * normal.ppf((1 + float(gaps.min())) / 2)
    assert claim.predicted.tolist() == [top, top]
    assert exact * 0.9 <= float(claim.radius[0]) <= exact


@pytest.mark.parametrize("n", [200, 5000])
@pytest.mark.parametrize("alpha", [0.001, 0.04])
def test_a_vote_that_is_always_won_has_the_closed_form(n: int, alpha: float) -> None:
    # n successes of n: the exact bound is alpha^(1/n).
    model, image = half_space(50.0)
    claim = smoothing(model, image, form="vote", sigma=0.5, n=n, alpha=alpha, batch_size=2000)
    exact = 0.5 * float(normal.isf(-np.expm1(np.log(alpha) / n)))
    assert float(claim.radius) == pytest.approx(exact, rel=1e-6)
    assert float(claim.radius) <= exact


@pytest.mark.parametrize("alpha", [0.001, 0.04])
def test_bernstein_on_a_constant_embedding_has_the_closed_form(alpha: float) -> None:
    # No variance is left: only 7 log(2 / alpha) / (3 (n - 1)) is taken off the mean.
    model = constant_embedding([1.0, 0.0], PrototypeHead(torch.eye(2)))
    options = {"sigma": 0.5, "n": 1000, "alpha": alpha, "form": "mean", "bound": "bernstein"}
    claim = smoothing(model, torch.zeros(1, 1, 4, 4), **options)  # pyright: ignore[reportArgumentType]
    lower = (1 + 0.5**0.5) / 2 - 7 * np.log(2 / alpha) / (3 * 999)
    assert float(claim.radius) == pytest.approx(0.5 * float(normal.ppf(lower)), rel=1e-4)
    assert float(claim.radius) <= 0.5 * float(normal.ppf(lower))


@pytest.mark.parametrize("form", ["mean", "vote"])
def test_seeds_decide_not_the_batch(form: Form) -> None:
    model, images = small_classifier(), some_images(4)
    whole = smoothing(model, images, seeds=[5, 6, 7, 8], form=form)
    alone = smoothing(model, images[2:3], seeds=[7], form=form)
    assert float(alone.radius[0]) > 0
    assert float(whole.radius[2]) == float(alone.radius[0])


def test_the_mean_form_needs_the_sphere() -> None:
    model = affine_classifier()
    assert isinstance(model, Classifier)
    with pytest.raises(UnsupportedError, match="form=vote"):
        smoothing(model, torch.rand(1, 2, 4, 4, dtype=torch.float64), form="mean")


def half_space(distance: float) -> tuple[Classifier, torch.Tensor]:
    """Two affine classes, and an image at a known distance from their boundary."""
    layer = nn.Linear(32, 2)
    layer.weight.data = torch.zeros(2, 32)
    inside = min(distance, 1.0)  # the boundary is as far below 0 as the pixel cannot be above
    layer.weight.data[0, 5] = 1.0
    layer.bias.data = torch.tensor([distance - inside, 0.0])
    network = nn.Sequential(nn.Flatten(), layer)
    image = torch.zeros(1, 2, 4, 4)
    image.flatten()[5] = inside
    return Classifier.from_scores(network, image_shape=(2, 4, 4)).eval(), image


def test_vote_reaches_the_distance_in_the_limit() -> None:
    model, image = half_space(0.4)
    for sigma in (0.25, 0.8):
        claim = smoothing(model, image, form="vote", sigma=sigma, n=100_000, batch_size=2000)
        assert 0.97 * 0.4 <= float(claim.radius[0]) <= 0.4


def diagonal_half_space(distance: float) -> tuple[Classifier, torch.Tensor]:
    """As `half_space`, with all six numbers of two channels alike: Linf is a factor sqrt 6 less."""
    layer = nn.Linear(6, 2)
    layer.weight.data = torch.stack([torch.full((6,), 6**-0.5), torch.zeros(6)])
    layer.bias.data = torch.zeros(2)
    network = nn.Sequential(nn.Flatten(), layer)
    image = torch.full((1, 2, 1, 3), distance * 6**-0.5)
    return Classifier.from_scores(network, image_shape=(2, 1, 3)).eval(), image


@pytest.mark.parametrize("form", ["vote", "clip"])
def test_the_linf_radius_is_that_of_the_corner(form) -> None:
    model, image = diagonal_half_space(0.4)
    images = image * torch.linspace(0.3, 1.0, 24)[:, None, None, None]
    options = {"form": form, "sigma": 0.3, "n": 2000, "clip": 0.05, "batch_size": 2000}
    plain, linf = (smoothing(model, images, norm=norm, **options) for norm in ("l2", "linf"))  # pyright: ignore[reportArgumentType]
    assert bool((plain.radius > 0).all())
    for wide, narrow in zip(plain.radius.tolist(), linf.radius.tolist(), strict=True):
        assert 6 * Fraction(narrow) ** 2 <= Fraction(wide) ** 2  # rounded down
    torch.testing.assert_close(linf.radius, plain.radius / 6**0.5, rtol=1e-9, atol=0)
    # A move of one number in all pixels at once is the nearest way over the edge.
    assert bool((linf.radius <= 0.4 / 6**0.5 * torch.linspace(0.3, 1.0, 24)).all())
    assert float(linf.radius[-1]) >= 0.8 * 0.4 / 6**0.5


def exact_clip_radius(distance: float, sigma: float, clip: float) -> float:
    grid = np.linspace(-9, 9, 200_001)
    margins = np.clip((distance + sigma * grid) / np.sqrt(2.0) / clip, -1, 1)
    mean = float((margins * normal.pdf(grid)).sum() * (grid[1] - grid[0]))
    return sigma * float(normal.ppf((1 + mean) / 2))


@pytest.mark.parametrize("form", ["vote", "clip"])
def test_wrong_claims_are_as_rare_as_alpha(form) -> None:
    # Scores f = (x_5, 0) with an identity head: a = (1, -1), so s = (x_5 + e_5) / sqrt 2.
    model, image = half_space(0.3)
    runs, alpha, sigma = 800, 0.05, 0.3
    exact = 0.3 if form == "vote" else exact_clip_radius(0.3, sigma, 0.2)
    claim = smoothing(
        model, image.expand(runs, -1, -1, -1), form=form, sigma=sigma, clip=0.2, n=150, n_select=20,
        alpha=alpha, batch_size=1000,
    )  # fmt: skip
    assert 0.5 * exact < float(claim.radius.mean()) < exact
    assert int((claim.radius > exact).sum()) <= binom.ppf(0.999, runs, alpha)
    assert int((1.25 * claim.radius > exact).sum()) > binom.ppf(0.999, runs, alpha)


@pytest.mark.parametrize("form", ["mean", "vote", "clip"])
def test_scaling_image_and_noise_scales_the_radius(form) -> None:
    model, images = small_classifier(head="linear"), some_images(4)
    encoder = Encoder(model.encoder.backbone, image_shape=(1, 8, 8), mean=(0.075,), std=(0.1,))
    small = Classifier(encoder, model.head).eval()
    before = smoothing(model, images, form=form, sigma=0.25, n=500)
    after = smoothing(small, images / 4.0, form=form, sigma=0.0625, n=500)
    assert bool((before.radius > 0).any())
    torch.testing.assert_close(4.0 * after.radius, before.radius, rtol=1e-4, atol=1e-6)


def constant_embedding(point: list[float], head: nn.Module) -> Classifier:
    layer = nn.Linear(16, len(point))
    nn.init.zeros_(layer.weight)
    layer.bias.data = torch.tensor(point)
    encoder = Encoder(nn.Sequential(nn.Flatten(), layer), image_shape=(1, 4, 4))
    return Classifier(encoder, head).eval()


@pytest.mark.parametrize("form", ["mean", "clip"])
@pytest.mark.parametrize("bound", ["betting", "bernstein"])
def test_every_rival_counts_and_lengths_are_not_squared(form, bound) -> None:
    # Scores 1, .5, .4: class 1 is the runner-up, but class 2 has the longer a_j and is nearer.
    weight = torch.tensor([[1.0, 0.0], [0.5, 0.3], [0.3, 2.0]])
    model = constant_embedding([1.0, 0.0], LinearHead(weight, torch.tensor([0.0, 0.0, 0.1])))
    options = {"form": form, "bound": bound, "clip": 1.0, "sigma": 0.5, "n": 20_000}
    claim = smoothing(model, torch.zeros(1, 1, 4, 4), batch_size=2000, **options)
    dots, shift = np.array([0.5, 0.7]), np.array([0.0, -0.1])
    lengths = np.sqrt([0.5**2 + 0.3**2, 0.7**2 + 2.0**2])
    if form == "mean":
        radii = normal.ppf((1 + dots / lengths) / 2) - normal.ppf((1 - shift / lengths) / 2)
    else:
        radii = normal.ppf((1 + (dots + shift) / (lengths + np.abs(shift))) / 2)
    assert np.argmin(radii) == 1
    exact = 0.5 * radii.min()
    assert claim.rival.tolist() == [2]
    assert 0.95 * exact <= float(claim.radius[0]) <= exact


def test_a_small_t_beats_the_vote_among_many_classes() -> None:
    # Cohen's vote takes 1 - p_A for the runner-up; pairs do not.
    model = affine_classifier(5, dtype=torch.float32)
    images = torch.rand(12, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    exact = exact_distance(model, images, "l2")
    sigma = float(exact.mean())
    vote = smoothing(model, images, form="vote", sigma=sigma, n=4000)
    pairs = smoothing(model, images, form="clip", clip=1e-4, sigma=sigma, n=4000)
    assert bool((pairs.radius <= exact).all())
    assert float(pairs.radius.mean()) > 1.1 * float(vote.radius.mean())


def test_the_chosen_t_is_no_worse_than_the_ends() -> None:
    model = affine_classifier(3, dtype=torch.float32)
    images = torch.rand(12, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    sigma = float(exact_distance(model, images, "l2").mean())
    t = choose_clip(model, images, sigma=sigma)
    assert 0 < t < 10
    chosen, wide, alone = (
        smoothing(model, images, form="clip", sigma=sigma, n=2000, clip=c) for c in (t, 100.0, 0.0)
    )
    assert f"t={t:g}" in chosen.subject and "per image" in alone.subject
    assert min(chosen.radius.mean(), alone.radius.mean()) > 2 * wide.radius.mean()


class Circle(nn.Module):
    """A beats B, B beats C, C beats A, each on two thirds of the noise."""

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        sector = ((torch.atan2(points[:, 0, 0, 0], points[:, 0, 0, 1]) / torch.pi + 1) * 1.5).long()
        order = torch.tensor([[2.0, 1.0, 0.0], [0.0, 2.0, 1.0], [1.0, 0.0, 2.0]])
        return order[sector.clamp(0, 2)]


@pytest.mark.parametrize("clip", [0.01, 0.0])
def test_no_class_wins_all_pairs(clip: float) -> None:
    model = Classifier.from_scores(Circle(), image_shape=(1, 1, 2))
    images = torch.zeros(5, 1, 1, 2)
    for form in ("clip", "vote"):
        claim = smoothing(model, images, form=form, clip=clip, n=500)
        assert claim.predicted.tolist() == [-1] * 5
        assert claim.radius.tolist() == [0.0] * 5


FORMS: tuple[Form, ...] = ("mean", "vote", "clip")


@pytest.mark.parametrize("form", FORMS)
def test_broken_embeddings_abstain(form: Form) -> None:
    model = constant_embedding([0.0, 0.0], PrototypeHead(torch.eye(2)))  # 0 / 0
    claim = smoothing(model, torch.zeros(1, 1, 4, 4), form=form)
    assert (claim.predicted.tolist(), claim.radius.tolist()) == ([-1], [0.0])


@pytest.mark.parametrize("form", ["mean", "clip"])
def test_a_tie_abstains(form: Form) -> None:
    twins = PrototypeHead(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    claim = smoothing(constant_embedding([1.0, 0.0], twins), torch.zeros(1, 1, 4, 4), form=form)
    assert (claim.predicted.tolist(), claim.radius.tolist()) == ([-1], [0.0])


class Outlier(nn.Module):
    """Class 0 has the highest mean score, but loses to class 1 nine times of ten."""

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        rare = (points[:, 0, 0, 0] > 0.25 * 1.2816).float()
        return torch.stack([100.0 * rare, 1.0 - rare], dim=1)


def test_the_winner_of_pairs_need_not_have_the_highest_mean() -> None:
    model = Classifier.from_scores(Outlier(), image_shape=(1, 1, 2))
    claim = smoothing(model, torch.zeros(1, 1, 1, 2), form="clip", clip=0.01, n=20_000)
    assert claim.predicted.tolist() == [1]
    # E phi = .9 - .1 = .8, whose radius is the distance to the step in the limit.
    assert 0.95 * 0.25 * 1.2816 < float(claim.radius[0]) < 0.25 * 1.2816


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_the_short_cut_over_rivals_is_the_smallest_of_all_bounds(spread: float) -> None:
    model, images = small_classifier(classes=6), some_images(200)
    assert isinstance(model.head, PrototypeHead)
    weight = model.head.weight.double()
    bias = spread * torch.linspace(-1.0, 1.0, 6).double()
    if spread:  # with offsets the thresholds of the other classes differ
        model = Classifier(model.encoder, LinearHead(weight.float(), bias.float())).eval()
        bias = bias.float().double()
    claim = smoothing(model, images, n=60, n_select=40, sigma=0.5, alpha=0.05, form="mean")
    rows = noisy_outputs(
        lambda x: model.embeddings(x).double() @ weight.T,
        images, noise_streams(images, None), sigma=0.5, count=100, batch_size=256,
    )  # fmt: skip
    differs = 0
    with torch.no_grad():
        for row, outputs in enumerate(rows):
            top = int((outputs[:40].mean(0) + bias).argmax())
            others = [j for j in range(6) if j != top]
            lengths = (weight[top] - weight[others]).norm(dim=1)
            values = (outputs[40:, [top]] - outputs[40:, others]) / lengths
            units = ((1 + values) / 2).numpy()
            edges = ((bias[others] - bias[top]) / lengths).clamp(-1, 1).numpy()
            lower, offset = betting_lower_bound(units, alpha=0.05), normal.ppf((1 + edges) / 2)
            radii, guess = normal.ppf(lower) - offset, normal.ppf(units.mean(0)) - offset
            slow = max(0.5 * float(radii.min()), 0.0)
            assert float(claim.radius[row]) == pytest.approx(slow, rel=1e-4, abs=1e-6)
            differs += int(slow > 0 and radii.argmin() != guess.argmin())
    assert differs >= 1  # or this test shows nothing


def test_the_short_cut_holds_whatever_the_thresholds_and_the_spreads() -> None:
    # Coins and constants: a constant looks nearest and a coin, which is bounded less closely, is.
    smallest = importlib.import_module("robustcl.certify._smoothing")._smallest_radius
    terms = Smoothed("mean", 1.0, 4, 0.0, np.empty(0), np.empty(0), sphere=True)
    draws, differs = np.random.default_rng(0), 0
    for _ in range(200):
        offset = np.array([0.0, *draws.uniform(-1.0, 1.0, 3)])
        means = normal.cdf(offset + draws.uniform(0.3, 1.2, 4))
        coins = draws.random((60, 4)) < means
        units = np.where(draws.random(4) < 0.5, coins, means)
        pair = Pairing(0, np.zeros(4), np.full(4, 0.5), offset, np.arange(4) > 0)
        outputs = np.where(np.arange(4) > 0, 0.5 - units, 0.0)
        radii = normal.ppf(betting_lower_bound(units, alpha=0.05)) - offset
        radius, rival = smallest(outputs, pair, terms, 0.05, "betting")
        assert radius == pytest.approx(radii[1:].min(), abs=1e-4)
        assert radii[rival] == pytest.approx(radius, abs=1e-4)
        looks = normal.ppf(units.mean(axis=0).clip(1e-9, 1 - 1e-9)) - offset
        differs += int(looks[1:].argmin() != radii[1:].argmin())
    assert differs > 20


def test_a_rival_that_can_hardly_overtake_counts() -> None:
    # a = (1, 0) and c = .95: behind only where f is within acos(.95) of the other pole.
    head = LinearHead(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([0.95, 0.0]))
    model = constant_embedding([-0.9, 0.19**0.5], head)
    claim = smoothing(model, torch.zeros(1, 1, 4, 4), sigma=0.5, n=100_000, form="mean")
    exact = 0.5 * float(normal.ppf(0.05) - normal.ppf(0.025))
    assert claim.rival.tolist() == [1]
    assert 0.9 * exact <= float(claim.radius) <= exact


@pytest.mark.parametrize("bias", [0.0, 0.1])
def test_twins_off_the_sphere_abstain(bias: float) -> None:
    # Class 1 scores as class 0 does, or always more.
    head = LinearHead(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.zeros(3))
    head.bias.data[1] = bias
    twins = constant_embedding([1.0, 0.0], head)
    model = Classifier(twins.encoder, head, normalizes=False).eval()
    claim = smoothing(model, torch.zeros(1, 1, 4, 4), form="clip")
    assert 0 not in claim.predicted.tolist()
    assert bias or (claim.predicted.tolist(), claim.radius.tolist()) == ([-1], [0.0])


class Broken(nn.Module):
    """f = (1, 0), but NaN on a fifth of the noise around 0."""

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        bad = points[:, 0, 0, 0] > 0.25 * 0.8416
        first = torch.where(bad, torch.nan, 1.0)
        return torch.stack([first, torch.zeros_like(first)], dim=1)


@pytest.mark.parametrize("form", ["mean", "clip"])
def test_samples_that_are_not_finite_count_as_the_worst(form: Form) -> None:
    encoder = Encoder(Broken(), image_shape=(1, 1, 2))
    model = Classifier(encoder, PrototypeHead(torch.eye(2))).eval()
    options = {"sigma": 0.25, "n": 50_000, "form": form, "clip": 1.0, "batch_size": 2000}
    claim = smoothing(model, torch.zeros(1, 1, 1, 2), **options)
    exact = 0.25 * float(normal.ppf(0.8 * (1 + 0.5**0.5) / 2))
    assert claim.predicted.tolist() == [0]
    assert 0.9 * exact <= float(claim.radius) <= exact


def test_infinite_scores_vote_for_no_class() -> None:
    class Infinite(nn.Module):
        def forward(self, points: torch.Tensor) -> torch.Tensor:
            flat = points.flatten(1)[:, :2]
            return torch.stack([flat[:, 0] + torch.inf, flat[:, 1]], dim=1)

    model = Classifier.from_scores(Infinite(), image_shape=(1, 1, 2))
    claim = smoothing(model, torch.zeros(1, 1, 1, 2), form="vote")
    assert (claim.predicted.tolist(), claim.radius.tolist()) == ([-1], [0.0])


def test_a_class_that_cannot_be_overtaken() -> None:
    head = LinearHead(torch.zeros(2, 2), torch.tensor([1.0, 0.0]))
    model = constant_embedding([1.0, 0.0], head)
    for form in ("mean", "clip"):
        claim = smoothing(model, torch.zeros(1, 1, 4, 4), form=form)
        assert (claim.predicted.tolist(), claim.rival.tolist()) == ([0], [-1])
        assert claim.radius.tolist() == [float("inf")]


@pytest.mark.parametrize("form", ["mean", "vote", "clip"])
def test_the_batch_size_does_not_matter(form) -> None:
    model, images = small_classifier(), some_images(3)
    one, other = (smoothing(model, images, form=form, n=300, batch_size=b) for b in (64, 1000))
    torch.testing.assert_close(one.radius, other.radius, rtol=1e-6, atol=1e-9)


def test_no_noise_is_used_twice() -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, points: torch.Tensor) -> torch.Tensor:
            seen.append(points.flatten(1).clone())
            return points.flatten(1)[:, :2]

    model = Classifier.from_scores(Spy(), image_shape=(1, 4, 4))
    seen.clear()
    smoothing(model, torch.zeros(3, 1, 4, 4), form="vote", n=500, n_select=20, batch_size=128)
    rows = torch.cat(seen)[: 3 * 520]
    assert len(torch.unique(rows, dim=0)) == 3 * 520
    assert {len(batch) for batch in seen} == {128}
    assert abs(float(rows.std()) - 0.25) < 0.005


@pytest.mark.parametrize(
    "options",
    [{"form": "median"}, {"bound": "hoeffding"}, {"form": "vote", "bound": "bernstein"},
     {"bound": "bernstein", "target": 0.1}, {"clip": -1.0}, {"target": -0.1}, {"sigma": 0.0},
     {"alpha": 0.6}, {"n": 1}, {"seeds": [1]}],
)  # fmt: skip
def test_unusable_options_are_refused(options) -> None:
    with pytest.raises(InputError):
        smoothing(small_classifier(), some_images(2), **options)
