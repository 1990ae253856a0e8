"""Deciding a radius: rarely wrong although it looks often, and quick where the answer is clear."""

import numpy as np
import pytest
import torch
from scipy.stats import binom
from scipy.stats import norm as normal
from torch import nn

from robustcl.certify import smoothing
from robustcl.certify.bounds.confidence import stake_shares
from robustcl.certify.decisions import STEP, decide_radius
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.models.heads import LinearHead
from tests.certify.test_smoothing import (
    constant_embedding,
    diagonal_half_space,
    exact_clip_radius,
    half_space,
)
from tests.network import small_classifier, some_images

RUNS, ALPHA, SIGMA = 400, 0.05, 0.3


def decide(form, radius: float, n: int = 800):
    model, image = half_space(0.3)
    exact = 0.3 if form == "vote" else exact_clip_radius(0.3, SIGMA, 0.2)
    options = {"sigma": SIGMA, "clip": 0.2, "n": n, "n_select": 20, "alpha": ALPHA}
    images = image.expand(RUNS, -1, -1, -1)
    return decide_radius(
        model, images, radius=radius * exact, form=form, batch_size=2048, **options
    )


@pytest.mark.parametrize("form", ["vote", "clip"])
def test_a_radius_that_is_too_large_is_rarely_proved(form) -> None:
    proved = decide(form, 1.0 + 1e-9).outcome.count("proved")
    assert proved <= binom.ppf(0.999, RUNS, ALPHA)
    # Of a radius a tenth smaller it proves more: the simulation can tell.
    assert decide(form, 0.9).outcome.count("proved") > binom.ppf(0.999, RUNS, ALPHA)


@pytest.mark.parametrize("form", ["vote", "clip"])
def test_clear_cases_end_early(form) -> None:
    near, far = decide(form, 0.4), decide(form, 2.0)
    assert near.outcome.count("proved") > 0.98 * RUNS
    assert far.outcome.count("given up") > 0.98 * RUNS
    assert float(near.samples.double().mean()) < 200
    assert float(far.samples.double().mean()) < 200
    assert set(near.claim.radius.tolist()) <= {0.0, near.claim.radius.max().item()}


def test_it_stops_when_the_capital_is_one_over_alpha() -> None:
    # Every vote is won: after k samples the capital is the mean of (1 + c (1/m - 1))^k.
    model, image = half_space(50.0)
    radius, alpha, n = 0.5, 1e-4, 5000
    decision = decide_radius(model, image, radius=radius, sigma=0.25, n=n, alpha=alpha)
    shares = stake_shares(n, alpha=alpha)
    gains = 1 + shares * (1 / normal.cdf(radius / 0.25) - 1)
    needed = next(k for k in range(STEP, n, STEP) if (gains**k).mean() >= 1 / alpha)
    assert decision.outcome == ("proved",)
    assert decision.samples.tolist() == [100 + needed]


@pytest.mark.parametrize("form", ["mean", "clip"])
def test_every_rival_has_to_be_shown(form) -> None:
    # Relative margins .857 and .33 (see test_smoothing): the first other class alone proves
    # nothing.
    head = LinearHead(torch.tensor([[1.0, 0.0], [0.5, 0.3], [0.3, 2.0]]), torch.zeros(3))
    model, image = constant_embedding([1.0, 0.0], head), torch.zeros(1, 1, 4, 4)
    options = {"form": form, "sigma": 0.5, "n": 4000, "clip": 1.0}
    near = 0.5 * float(normal.ppf((1 + 0.7 / (0.7**2 + 4.0) ** 0.5) / 2))
    for factor, outcome in ((0.9, "proved"), (1.1, "given up"), (2.5, "given up")):
        decision = decide_radius(model, image, radius=factor * near, **options)
        assert decision.outcome == (outcome,)
    assert decide_radius(model, image, radius=0.9 * near, **options).claim.rival.tolist() == [2]


def test_what_n_samples_cannot_show_is_given_up_at_once() -> None:
    model, image = half_space(5.0)
    decision = decide_radius(model, image, radius=1.0, sigma=0.25, n=100)
    assert decision.outcome == ("given up",)
    assert decision.samples.tolist() == [100]
    assert decision.claim.predicted.tolist() == [-1]


@pytest.mark.parametrize("form", ["mean", "vote", "clip"])
def test_seeds_decide_not_the_batch(form) -> None:
    model, images = small_classifier(), some_images(6)
    whole = decide_radius(model, images, radius=0.1, form=form)
    part = decide_radius(model, images[2:4], seeds=[2, 3], radius=0.1, form=form, batch_size=50)
    assert part.outcome == whole.outcome[2:4]
    assert part.samples.tolist() == whole.samples[2:4].tolist()
    assert "proved" in whole.outcome
    assert int(whole.samples.max()) <= 1100


def test_smoothing_with_a_target_gives_the_radius_or_nothing() -> None:
    model, images = small_classifier(), some_images(6)
    decision = decide_radius(model, images, radius=0.02, norm="linf", form="vote")
    claim = smoothing(model, images, norm="linf", form="vote", target=0.02)
    assert torch.equal(claim.radius, decision.claim.radius)
    proved = np.array(decision.outcome) == "proved"
    assert claim.radius.tolist() == np.where(proved, 0.02, 0.0).tolist()
    assert ((claim.predicted >= 0).numpy() == proved).all() and proved.any()
    # 0.02 in every pixel of 64 is 0.16 in L2.
    same = decide_radius(model, images, radius=0.02 * 8, form="vote")
    assert same.outcome == decision.outcome


def test_no_noise_is_used_twice() -> None:
    seen: list[torch.Tensor] = []

    class Spy(nn.Module):
        def forward(self, points: torch.Tensor) -> torch.Tensor:
            seen.append(points.flatten(1).clone())
            return points.flatten(1)[:, :2]

    model = Classifier.from_scores(Spy(), image_shape=(1, 4, 4))
    seen.clear()
    images = torch.zeros(2, 1, 4, 4)
    decision = decide_radius(model, images, radius=1e-3, n=320, n_select=64, batch_size=32)
    rows = torch.cat(seen)
    assert int(decision.samples.sum()) == len(rows) >= 128 + 64
    assert len(torch.unique(rows, dim=0)) == len(rows)


@pytest.mark.parametrize("form", ["vote", "clip"])
def test_a_linf_radius_is_asked_about_at_the_corner(form) -> None:
    # Six numbers in two channels, and the nearest boundary straight across all of them.
    model, image = diagonal_half_space(0.3)
    exact = (0.3 if form == "vote" else exact_clip_radius(0.3, SIGMA, 0.2)) / 6**0.5
    options = {"form": form, "sigma": SIGMA, "clip": 0.2, "n": 4000, "n_select": 20}
    for factor, outcome in ((0.8, "proved"), (1.2, "given up")):
        decision = decide_radius(model, image, radius=factor * exact, norm="linf", **options)
        assert decision.outcome == (outcome,)


def test_unusable_options_are_refused() -> None:
    model, images = small_classifier(), some_images(2)
    for options in ({"radius": 0.0}, {"radius": 0.1, "beta": 1.0}, {"radius": 0.1, "seeds": [1]}):
        with pytest.raises(InputError):
            decide_radius(model, images, **options)  # pyright: ignore[reportArgumentType]
