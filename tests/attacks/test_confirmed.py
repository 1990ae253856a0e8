"""What a second objective does not confirm is pushed outward, or dropped."""

import pytest
import torch

from robustcl import Objective, Threat, attacks, misclassify
from robustcl.threat import DUAL_ORDERS, NORMS, Norm, perturbation_norm
from tests.network import small_classifier, some_images

GAP = 1e-3  # by which the first objective wins too early


def objectives(norm: Norm) -> tuple[Objective, Objective, torch.Tensor, torch.Tensor]:
    # Along a plane of unit dual norm at distance 0.2 to 0.8; the first one is too easy by GAP.
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 1, 4, 4, generator=generator) * 0.02 + 0.49
    slope = torch.randn(16, generator=generator).double()
    slope = slope / torch.linalg.vector_norm(slope, DUAL_ORDERS[norm])
    far = torch.linspace(0.05, 0.3, 6).double()
    start = images.double().flatten(1) @ slope

    def aim(rows: torch.Tensor):
        return lambda points: points.double().flatten(1) @ slope - start[rows] - far[rows]

    everyone = torch.arange(6)
    exact = Objective(aim(everyone), aim=aim)

    def early(rows: torch.Tensor):
        return lambda points: aim(rows)(points) + GAP

    return Objective(early(everyone), aim=early), exact, images, far


@pytest.mark.parametrize("norm", NORMS)
def test_points_are_pushed_until_both_agree_and_no_farther_than_needed(norm: Norm) -> None:
    first, exact, images, far = objectives(norm)
    found = attacks.run("boundary_walk", first, images, Threat(norm, 0.5), batch_size=4)
    assert bool(found.success.all())
    assert not bool((exact.margin(found.adversarials.double()) > 0).any())
    sure = attacks.confirmed(found, first, exact, images, Threat(norm, 0.5), batch_size=4)
    assert bool(sure.success.all())
    assert bool((exact.margin(sure.adversarials.double()) > 0).all())
    assert bool((sure.radius >= far * (1 - 1e-6)).all())
    assert bool((sure.radius <= far + 0.1 * GAP).all())
    moved = perturbation_norm(sure.adversarials - images, norm)
    torch.testing.assert_close(moved, sure.radius)
    assert bool((sure.gradients > found.gradients).all())


@pytest.mark.parametrize("norm", NORMS)
def test_what_cannot_be_pushed_within_the_budget_counts_as_not_found(norm: Norm) -> None:
    first, exact, images, far = objectives(norm)
    threat = Threat(norm, far - 0.5 * GAP)
    found = attacks.run("pgd", first, images, threat, batch_size=4)
    assert bool(found.success.all())
    sure = attacks.confirmed(found, first, exact, images, threat, batch_size=4)
    assert not bool(sure.success.any())
    assert bool(torch.isinf(sure.radius).all())
    assert torch.equal(sure.adversarials, images)


def test_what_is_confirmed_already_stays_as_it_is() -> None:
    first, exact, images, _ = objectives("l2")
    found = attacks.run("fmn", exact, images, Threat("l2", 0.5), batch_size=4)
    sure = attacks.confirmed(found, first, exact, images, Threat("l2", 0.5), batch_size=4)
    assert torch.equal(sure.adversarials, found.adversarials)
    assert torch.equal(sure.radius, found.radius)
    assert torch.equal(sure.gradients, found.gradients)


def test_points_found_in_float32_hold_in_float64() -> None:
    model, images = small_classifier(), some_images(20)
    left = model(images).argmax(1)
    goal, double = misclassify(model, left), misclassify(small_classifier().double(), left)
    found = attacks.attacked_radius("pgd", goal, images, norm="l2", eps_grid=[2.0], batch_size=20)
    sure = attacks.confirmed(found, goal, double, images, Threat("l2", 2.0), batch_size=20)
    assert bool((sure.success == found.success).all()) and bool(sure.success.any())
    assert bool((double.margin(sure.adversarials.double()) > 0)[sure.success].all())
    ratio = (sure.radius / found.radius)[sure.success]
    assert bool((ratio < 1.001).all())
