"""Smoothing: confidence bounds by simulation, and a problem with a known answer."""

import numpy as np
import pytest
import torch
from scipy.stats import norm as normal
from torch import nn

from certify import smoothing
from certify.bounds import betting_lower_bound, clopper_pearson_lower_bound
from robustcl import Classifier, UnsupportedError
from robustcl.heads import PrototypeHead
from tests.affine import affine_classifier, exact_distance
from tests.network import small_classifier, some_images


def test_betting_bound_covers() -> None:
    draws = np.random.default_rng(0)
    for shape in ((0.5, 0.5), (8.0, 1.0), (1.0, 5.0)):
        mean = shape[0] / sum(shape)
        samples = draws.beta(*shape, size=(200, 2000))
        bounds = betting_lower_bound(samples, alpha=0.05)
        assert np.mean(bounds > mean) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
        assert np.mean(bounds) > mean - 0.12


def test_clopper_pearson_covers() -> None:
    counts = np.random.default_rng(0).binomial(100, 0.8, size=3000)
    wrong = [clopper_pearson_lower_bound(int(c), 100, alpha=0.05) > 0.8 for c in counts]
    assert 0.01 <= np.mean(wrong) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 3000)


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


def test_seeds_decide_not_the_batch() -> None:
    model, images = small_classifier(), some_images(4)
    whole = smoothing(model, images, seeds=[5, 6, 7, 8])
    alone = smoothing(model, images[2:3], seeds=[7])
    assert float(whole.radius[2]) == float(alone.radius[0])


def test_the_mean_form_needs_the_sphere() -> None:
    model = affine_classifier()
    assert isinstance(model, Classifier)
    with pytest.raises(UnsupportedError, match="form=vote"):
        smoothing(model, torch.rand(1, 2, 4, 4, dtype=torch.float64))
