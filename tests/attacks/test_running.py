"""Attacks: seeds, budgets, restored models, and the reference AutoAttack."""

import numpy as np
import pytest
import torch

from robustcl import attacks
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective, misclassify
from robustcl.core.threat import Threat
from tests.affine import affine_classifier, exact_distance
from tests.network import small_classifier, some_images


def setting(count: int = 10) -> tuple[Objective, torch.Tensor]:
    model, images = small_classifier(), some_images(count)
    return misclassify(model, model(images).argmax(1)), images


def test_an_image_gets_the_same_verdict_alone_and_in_any_batch() -> None:
    objective, images = setting()
    seeds = list(range(10))
    options = {"norm": "l2", "eps_grid": [0.1, 0.4], "batch_size": 8}
    whole = attacks.attacked_radius("pgd", objective, images, seeds=seeds, **options)
    row = torch.tensor([7])
    alone = attacks.attacked_radius("pgd", objective.select(row), images[row], seeds=[7], **options)
    assert float(alone.radius[0]) == float(whole.radius[7])


def test_budgets_may_differ_by_image_and_success_rises_with_them() -> None:
    objective, images = setting()
    budgets = torch.linspace(0.01, 1.5, 10)
    small = attacks.run_attack("pgd", objective, images, Threat("linf", budgets / 10), batch_size=4)
    large = attacks.run_attack("pgd", objective, images, Threat("linf", budgets), batch_size=4)
    assert bool((large.success | ~small.success).all())
    assert int(large.success.sum()) > int(small.success.sum())
    found = large.radius[large.success]
    assert bool((found <= budgets[large.success].double() * (1 + 1e-6)).all())
    assert float(large.adversarials.min()) >= 0.0
    assert float(large.adversarials.max()) <= 1.0


def test_the_model_is_restored_after_an_exception() -> None:
    objective, images = setting()
    assert objective.classifier is not None
    objective.classifier.train()

    def fails(objective, images, threat, *, seeds):
        assert not objective.classifier.training
        raise RuntimeError("planned")

    with pytest.raises(RuntimeError, match="planned"):
        attacks.run_attack(fails, objective, images, Threat("l2", 1.0))
    assert all(part.training for part in objective.classifier.modules())
    assert all(weight.requires_grad for weight in objective.classifier.parameters())


def test_autoattack_finds_what_pgd_finds_and_leaves_the_generators_alone() -> None:
    objective, images = setting(6)
    threat = Threat("linf", 0.15)
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    result = attacks.run_attack("autoattack", objective, images, threat)
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002
    pgd = attacks.run_attack("pgd", objective, images, threat)
    assert bool((result.success | ~pgd.success).all())
    assert objective.classifier is not None
    assert all(weight.grad is None for weight in objective.classifier.parameters())


def test_two_classes_are_treated_and_the_note_says_how() -> None:
    model, images = small_classifier(classes=2), some_images(4)
    objective = misclassify(model, model(images).argmax(1))
    result = attacks.run_attack("autoattack", objective, images, Threat("linf", 0.5))
    assert "no targeted APGD" in result.note
    assert bool(result.success.any())


def test_who_is_wrong_at_the_start_has_radius_zero() -> None:
    model, images = small_classifier(), some_images(5)
    other = (model(images).argmax(1) + 1) % 6
    result = attacks.attacked_radius(
        "pgd", misclassify(model, other), images, norm="l2", eps_grid=[0.1]
    )
    assert bool((result.radius == 0).all())


def test_steps_that_cannot_cross_the_ball_are_refused() -> None:
    objective, images = setting(2)
    with pytest.raises(InputError, match="cross"):
        attacks.run_attack("pgd", objective, images, Threat("l2", 1.0), steps=10, step_size=0.1)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="apgd, autoattack"):
        attacks.parse_attack("deepfolly")
    with pytest.raises(InputError, match="steps"):
        attacks.parse_attack("pgd:stops=3")


def test_a_point_outside_the_ball_counts_where_its_projection_wins() -> None:
    objective, images = setting(6)
    threat = Threat("l2", 2.0)
    found = attacks.run_attack("pgd", objective, images, threat)
    assert bool(found.success.any())

    def far(objective, images, threat, *, seeds):
        near = attacks.pgd(objective, images, threat, seeds=seeds)
        return attacks.Candidates(images + 1.5 * (near.candidates - images), near.gradients)

    pulled = attacks.run_attack(far, objective, images, Threat("l2", 2.0, None))
    assert bool(pulled.success.any())
    assert float(pulled.radius[pulled.success].max()) <= 2.0 * (1 + 1e-6)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_on_the_rim_of_a_small_ball_count(norm: Norm, dtype: torch.dtype) -> None:
    # x + delta rounds, by more than 1e-6 of such an eps.
    model = affine_classifier(dtype=dtype)
    draws = torch.Generator().manual_seed(3)
    images = torch.randint(30, 226, (40, 2, 4, 4), generator=draws).to(dtype) / 255
    exact = exact_distance(model, images, norm)
    eps = {"l2": 0.1, "linf": 2 / 255}[norm]
    assert 3 < int((exact < eps).sum()) < 37
    objective = misclassify(model, model(images).argmax(1))
    result = attacks.run_attack("pgd", objective, images, Threat(norm, eps))
    assert bool(result.success[exact < eps].all())
    assert not bool(result.success[exact > eps].any())
    assert bool((result.radius[result.success] <= eps * (1 + 1e-6)).all())
    everywhere = attacks.run_attack("pgd", objective, images, Threat(norm, 1.05 * exact))
    assert bool(everywhere.success[exact > 1e-4].all())


def test_a_pixel_of_the_size_of_eps_is_pulled_inside_too() -> None:
    # 2/255 as float32 exceeds 2/255 by 6e-8 of it.
    images = torch.full((1, 1, 8, 8), 2.0) / 255

    def dark(objective, images, threat, *, seeds):
        return attacks.Candidates(0 * images, torch.zeros(len(images), dtype=torch.int64))

    objective = Objective(lambda points: 1.0 + 0 * points.flatten(1).sum(1))
    result = attacks.run_attack(dark, objective, images, Threat("linf", 2 / 255), batch_size=1)
    assert bool(result.success.all())
    assert 0.007 < float(result.deployed[0]) <= 2 / 255 * (1 + 1e-6)


class _Plateau(torch.nn.Module):
    # Class 1 rises with the brightest pixel, beyond a plateau around gray; class 2 is constant.
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rise = (images.flatten(1) - 0.6).clamp_min(0.0).amax(dim=1)
        fixed = torch.zeros_like(rise)
        return torch.stack([fixed, 9.0 * rise - 1.0, fixed - 0.5], dim=1)


@pytest.mark.parametrize("restarts", [1, 3])
def test_pgd_leaves_a_plateau_on_which_no_gradient_leads_on(restarts: int) -> None:
    images = torch.full((6, 1, 2, 2), 0.5)
    objective = misclassify(
        Classifier.from_scores(_Plateau(), image_shape=(1, 2, 2)), torch.zeros(6).long()
    )
    points = images.clone().requires_grad_()
    assert not bool(torch.autograd.grad(objective.margin(points).sum(), points)[0].any())
    result = attacks.run_attack("pgd", objective, images, Threat("linf", 0.4), restarts=restarts)
    assert bool(result.success.any() if restarts == 1 else result.success.all())


def test_passes_parameters_and_stages_of_all_budgets_add_up() -> None:
    objective, images = setting(6)
    model, seen = objective.classifier, []
    assert model is not None
    handle = model.encoder.register_forward_hook(lambda _, rows, __: seen.append(len(rows[0])))
    options = {"norm": "l2", "eps_grid": [0.05, 0.5, 5.0], "batch_size": 6}
    result = attacks.attacked_radius("pgd", objective, images, steps=7, restarts=1, **options)
    handle.remove()
    assert (result.parameters["steps"], result.parameters["restarts"]) == (7, 1)
    assert torch.equal(torch.stack(list(result.stages.values())).sum(0), result.gradients)
    assert set(result.stages) == {"search", "shrink", "walk", "confirm"}
    assert bool((result.stages["search"] % 7 == 0).all())
    assert result.forwards is not None and result.failed is not None
    # What is not counted is one verification of each attack's points.
    assert 0.7 * sum(seen) < int(result.forwards.sum()) <= sum(seen)
    assert bool((result.failed < result.radius * 1.0001).all())


def test_passes_of_an_attack_are_those_of_the_network() -> None:
    objective, images = setting(10)
    result = attacks.run_attack("pgd", objective, images, Threat("l2", 1e-6), steps=5, batch_size=4)
    # Ordering other classes; 6 points per run; one more look at the margin where the loss is
    # another.
    assert result.forwards is not None
    assert result.forwards.tolist() == [1 + 6 + 12] * 10
    assert result.gradients.tolist() == [10] * 10
