"""Displacement: exact where the embedding turns as the image does, never beaten elsewhere."""

import math
from typing import get_args

import pytest
import torch
from scipy.stats import norm as normal
from torch import Tensor, nn

from robustcl import attacks
from robustcl.certify._displacement import displacement, smoothed_displacement
from robustcl.certify.bounds import network_lipschitz_bound
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError, UnsupportedError
from robustcl.core.objectives import displace
from robustcl.core.threat import Threat
from robustcl.models.heads import PrototypeHead
from tests.affine import affine_classifier
from tests.network import small_classifier, some_images

NORMS = get_args(CertifiedNorm)
SCALE = 1.7


def turning_classifier(*, pixels: int = 2) -> Classifier:
    """h = a rotation of the first two pixels, stretched: every drift is known."""
    turn = nn.Linear(pixels, 2, bias=False)
    turn.weight.data.zero_()
    turn.weight.data[:, :2] = SCALE * torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    encoder = Encoder(nn.Sequential(nn.Flatten(), turn), image_shape=(1, 1, pixels)).double()
    return Classifier(encoder, PrototypeHead(torch.eye(2))).double().eval()


def points(count: int = 8, *, pixels: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 1, pixels, generator=generator, dtype=torch.float64) * 0.94 + 0.05


def worst_drift(images: Tensor, eps: float) -> Tensor:
    """The farthest a point of the circle moves when x moves by eps, by search over directions."""
    angles = torch.linspace(0, 2 * torch.pi, 20_001, dtype=torch.float64)
    moves = eps * torch.stack([angles.cos(), angles.sin()], 1)
    start = images.flatten(1)
    there = nn.functional.normalize(start[:, None] + moves, dim=2)
    return (there - nn.functional.normalize(start, dim=1)[:, None]).norm(dim=2).amax(dim=1)


@pytest.mark.parametrize("eps", [0.0, 0.02, 0.1, 0.3])
def test_on_the_circle_the_drift_is_exact(eps: float) -> None:
    model, images = turning_classifier(), points()
    claim = displacement(model, images, eps=eps)
    reached = images.flatten(1).norm(dim=1) <= eps
    worst = worst_drift(images, eps)
    assert bool((claim.drift >= worst).all())
    torch.testing.assert_close(claim.drift[~reached], worst[~reached], rtol=1e-6, atol=1e-9)
    assert claim.drift[reached].tolist() == [2.0] * int(reached.sum())
    assert (claim.guarantee, claim.subject, claim.norm) == ("deterministic", "model", "l2")


def test_a_budget_that_reaches_the_origin_turns_the_embedding_around() -> None:
    model, images = turning_classifier(), points()
    for row, size in enumerate(images.flatten(1).norm(dim=1).tolist()):
        image = images[row : row + 1]
        for share in (1.001, 1.3, 3.0):
            assert float(worst_drift(image, share * size)) == pytest.approx(2.0, abs=0.01)
            assert float(displacement(model, image, eps=share * size).drift) == 2.0
        assert float(displacement(model, image, eps=0.999 * size).drift) < math.sqrt(2.0)


@pytest.mark.parametrize("threshold", [0.05, 0.7, 1.3])
def test_on_the_circle_the_budget_is_exact(threshold: float) -> None:
    model, images = turning_classifier(), points()
    claim = displacement(model, images, threshold=threshold)
    for row, budget in enumerate(claim.budget.tolist()):
        assert float(worst_drift(images[row : row + 1], budget)) <= threshold
        assert float(worst_drift(images[row : row + 1], budget * 1.001)) > threshold * 0.9999


def test_beyond_a_quarter_turn_the_budget_ends_where_h_can_vanish() -> None:
    model, images = turning_classifier(), points()
    size = images.flatten(1).norm(dim=1)
    for threshold in (math.sqrt(2.0), 1.9, 5.0):
        budget = displacement(model, images, threshold=threshold).budget
        assert bool((budget < size).all())
        torch.testing.assert_close(budget, size, rtol=1e-6, atol=0)


def test_the_two_directions_are_inverse() -> None:
    model, images = small_classifier(), some_images()
    for norm in NORMS:
        budget = displacement(model, images, threshold=0.3, norm=norm).budget
        for row in range(3):
            back = displacement(
                model, images[row : row + 1], eps=float(budget[row]), norm=norm
            ).drift
            torch.testing.assert_close(float(back), 0.3, rtol=1e-6, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_no_attack_moves_the_embedding_further(norm: CertifiedNorm) -> None:
    model, images = small_classifier().double(), some_images().double()
    bound = network_lipschitz_bound(model.encoder, norm=norm)
    claim = displacement(model, images, threshold=0.3, norm=norm, prepared=bound)
    result = attacks.attacked_radius(
        "pgd",
        displace(model, images, threshold=0.3),
        images,
        norm=norm,
        eps_grid=[0.02, 0.1, 0.5, 2.0],
        box=None,
        batch_size=16,
    )
    assert bool((claim.budget > 0).all()) and bool(torch.isfinite(result.radius).any())
    assert bool((claim.budget <= result.radius).all())
    eps = float(claim.budget.min())
    drift = displacement(model, images, eps=eps, norm=norm).drift
    within = Threat(norm, eps, None)
    lost = attacks.run_attack(
        "pgd", displace(model, images, threshold=drift), images, within, batch_size=16
    )
    assert not bool(lost.success.any())


def test_pgd_reaches_the_bound_on_the_circle_and_beats_one_that_is_too_large() -> None:
    model, images = turning_classifier(), points()
    claim = displacement(model, images, threshold=0.5)
    result = attacks.attacked_radius(
        "pgd",
        displace(model, images, threshold=0.5),
        images,
        norm="l2",
        eps_grid=[0.1, 0.5, 2.0],
        box=None,
        batch_size=8,
    )
    assert bool((claim.budget <= result.radius).all())
    # Planted: the arc for the chord (0.5 for 2 arcsin 0.25), and the small-angle formula.
    size = images.flatten(1).norm(dim=1)
    for wrong in (1.05 * claim.budget, size * math.tan(0.5)):
        assert bool((wrong > result.radius).any())


def test_without_the_sphere_the_drift_is_the_norm_times_the_budget() -> None:
    model, images = affine_classifier(), points(4, pixels=32).view(4, 2, 4, 4)
    layer = model.encoder.backbone[1]  # pyright: ignore[reportIndexIssue]
    largest = float(torch.linalg.matrix_norm(layer.weight.detach() / 0.5, 2))
    drift = displacement(model, images, eps=0.2).drift
    budget = displacement(model, images, threshold=0.2).budget
    torch.testing.assert_close(drift, torch.full_like(drift, 0.2 * largest), rtol=1e-6, atol=0)
    torch.testing.assert_close(budget, torch.full_like(budget, 0.2 / largest), rtol=1e-6, atol=0)
    assert bool((drift >= 0.2 * largest).all()) and bool((budget <= 0.2 / largest).all())


def test_a_vanishing_embedding_is_claimed_nothing() -> None:
    model = turning_classifier()
    black = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    assert float(displacement(model, black, threshold=0.5).budget) == 0.0
    assert float(displacement(model, black, eps=0.1).drift) == 2.0


def half_plane_classifier(pixels: int, *, channels: int = 1) -> Classifier:
    """f = (+1, 0) or (-1, 0) by the sign of the first pixel less 1/2: g has a closed form."""

    class Sign(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            side = torch.where(images.flatten(1)[:, 0] > 0.5, 1.0, -1.0)
            return torch.stack([side, torch.zeros_like(side)], dim=1)

    encoder = Encoder(Sign(), image_shape=(channels, 1, pixels))
    return Classifier(encoder, PrototypeHead(torch.eye(2)))


def test_the_smoothed_bound_is_reached_by_a_half_plane() -> None:
    # g = 2 Phi((x_1 - 1/2) / sigma) - 1; the drift is largest across the edge.
    model, images, sigma = half_plane_classifier(1), torch.full((3, 1, 1, 1), 0.4), 0.3
    for eps in (1e-9, 0.05, 0.2, 1.0):
        exact = 2 * (normal.cdf(eps / 2 / sigma) - normal.cdf(-eps / 2 / sigma))
        drift = smoothed_displacement(model, images, sigma=sigma, eps=eps).drift
        assert drift.shape == (3,) and float(drift[0]) >= exact * (1 - 1e-7)
        assert float(drift[0]) == pytest.approx(exact, rel=1e-6)
        claim = smoothed_displacement(model, images, sigma=sigma, threshold=float(drift[0]))
        assert float(claim.budget[0]) == pytest.approx(eps, rel=1e-6)
    assert float(smoothed_displacement(model, images, sigma=sigma, threshold=2.0).budget[0]) == (
        math.inf
    )


def test_the_smoothed_bound_for_linf_is_that_of_the_corner() -> None:
    model, images = half_plane_classifier(2, channels=2), torch.full((1, 2, 1, 2), 0.4)
    corner = smoothed_displacement(model, images, sigma=0.3, eps=0.2).drift
    drift = smoothed_displacement(model, images, sigma=0.3, eps=0.1, norm="linf").drift
    torch.testing.assert_close(drift, corner)
    budget = smoothed_displacement(model, images, sigma=0.3, threshold=0.4, norm="linf").budget
    plain = smoothed_displacement(model, images, sigma=0.3, threshold=0.4).budget
    torch.testing.assert_close(2 * budget, plain)


def test_what_makes_no_sense_is_refused() -> None:
    model, images = small_classifier(), some_images(2)
    for eps, threshold in ((None, None), (0.1, 0.1), (-1.0, None), (None, 0.0)):
        with pytest.raises(InputError):
            displacement(model, images, eps=eps, threshold=threshold)
        with pytest.raises(InputError):
            smoothed_displacement(model, images, eps=eps, threshold=threshold)
    with pytest.raises(InputError, match="prepared"):
        displacement(
            model, images, eps=0.1, prepared=network_lipschitz_bound(model.encoder, norm="linf")
        )
    with pytest.raises(UnsupportedError, match="sphere"):
        smoothed_displacement(affine_classifier(), torch.rand(1, 2, 4, 4), eps=0.1)
