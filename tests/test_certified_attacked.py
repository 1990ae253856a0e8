"""certified <= exact <= attacked where the exact radius is known, and planted mistakes."""

from typing import get_args

import pytest
import torch

from robustcl import attacks, certify
from robustcl.core.choices import CertifiedNorm
from robustcl.core.objectives import misclassify
from robustcl.core.threat import Threat
from tests.affine import SHAPE, affine_classifier, exact_distance

NORMS = get_args(CertifiedNorm)


def images(count: int = 12) -> torch.Tensor:
    return torch.rand(
        count, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


@pytest.mark.parametrize("norm", NORMS)
def test_affine_scores_are_certified_exactly(norm: CertifiedNorm) -> None:
    model, points = affine_classifier(), images()
    exact = exact_distance(model, points, norm)
    for claim in (
        certify.product(model, points, norm=norm),
        certify.first_order(model, points, norm=norm),
    ):
        torch.testing.assert_close(claim.radius, exact, rtol=1e-6, atol=0)
    assert bool((certify.product(model, points, norm=norm).radius <= exact).all())


def found_radius(norm: CertifiedNorm) -> tuple[torch.Tensor, torch.Tensor]:
    model, points = affine_classifier(), images()
    left = model(points).argmax(1)
    exact = exact_distance(model, points, norm)
    top = float(exact.max())
    result = attacks.attacked_radius(
        "pgd",
        misclassify(model, left),
        points,
        norm=norm,
        eps_grid=[top / 4, top / 2, 2 * top],
        box=None,
        batch_size=8,
    )
    return result.radius, exact


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_reaches_the_exact_distance_and_never_goes_below(norm: CertifiedNorm) -> None:
    radius, exact = found_radius(norm)
    assert bool((radius >= exact * (1 - 1e-9)).all())
    assert bool((radius <= exact * 1.01).all())


def test_a_radius_multiplied_by_1_1_is_beaten() -> None:
    radius, exact = found_radius("l2")
    assert bool((1.1 * exact > radius).all())


@pytest.mark.parametrize("norm", NORMS)
def test_an_attack_that_oversteps_is_pulled_back(norm: CertifiedNorm) -> None:
    model, points = affine_classifier(), images()
    left = model(points).argmax(1)
    eps = 0.5 * exact_distance(model, points, norm)

    def cheat(objective, images, threat, *, seeds):
        return attacks.pgd(objective, images, Threat(norm, 100 * threat.eps, None), seeds=seeds)

    result = attacks.run_attack(
        cheat, misclassify(model, left), points, Threat(norm, eps, None), batch_size=4
    )
    assert not bool(result.success.any())
    assert bool(torch.isinf(result.radius).all())


def test_a_point_that_is_not_finite_is_no_success() -> None:
    model, points = affine_classifier(), images(3)
    left = model(points).argmax(1)

    def broken(objective, images, threat, *, seeds):
        return attacks.Candidates(images * torch.nan, torch.zeros(len(images), dtype=torch.int64))

    result = attacks.run_attack(
        broken, misclassify(model, left), points, Threat("l2", 9.0), batch_size=4
    )
    assert not bool(result.success.any())
    assert torch.equal(result.adversarials, points)
