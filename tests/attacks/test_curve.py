"""Curves say what was reached after each number of evaluations."""

import numpy as np
import pytest
import torch

from robustcl import attacks
from robustcl.attacks.curve import EVALUATIONS
from robustcl.core.objectives import Objective, misclassify
from robustcl.core.threat import Threat
from tests.network import small_classifier, some_images


def setting(count: int = 7) -> tuple[Objective, torch.Tensor]:
    model, images = small_classifier(), some_images(count)
    return misclassify(model, model(images).argmax(1)), images


@pytest.mark.parametrize("attack", ["pgd", "apgd", "fmn", "ddn", "deepfool", "boundary_walk"])
def test_a_curve_ends_at_what_the_attack_found(attack: str) -> None:
    objective, images = setting()
    result = attacks.run_attack(attack, objective, images, Threat("l2", 1.0), batch_size=4)
    (curve,) = result.curves.values()
    assert curve.margins.shape == (7, len(EVALUATIONS))
    assert bool((np.diff(curve.margins, axis=1) >= 0).all())
    assert bool((curve.norms[:, 1:] <= curve.norms[:, :-1]).all())
    won = result.success.numpy()
    assert won.any()
    assert (np.isfinite(curve.norms[:, -1]) == won).all()
    assert (curve.counts > 0).all()
    if attack in ("fmn", "ddn", "boundary_walk"):
        expected = result.radius.numpy()[won]
        np.testing.assert_allclose(curve.norms[won, -1], expected, rtol=1e-4)
    if attack == "pgd":
        final = objective.margin(result.adversarials).detach().numpy()
        np.testing.assert_allclose(curve.margins[won, -1], final[won], rtol=1e-4, atol=1e-6)
        assert (curve.counts == 2 * 41).all()


def test_the_first_evaluation_is_the_image_itself() -> None:
    objective, images = setting()
    result = attacks.run_attack("pgd", objective, images, Threat("l2", 0.5), batch_size=3)
    (curve,) = result.curves.values()
    clean = objective.margin(images).detach().numpy()
    np.testing.assert_allclose(curve.margins[:, 0], clean, rtol=1e-4, atol=1e-6)


def test_points_beyond_the_budget_do_not_count() -> None:
    objective, images = setting()

    def far(objective, images, threat, *, seeds):
        objective.margin(images)
        objective.margin(1.0 - images)
        return attacks.Candidates(images, torch.zeros(len(images), dtype=torch.int64))

    result = attacks.run_attack(far, objective, images, Threat("l2", 0.01))
    (curve,) = result.curves.values()
    assert (curve.margins[:, 0] == curve.margins[:, -1]).all()
    assert (curve.counts == 2).all()


def test_each_budget_has_a_curve_of_those_who_were_left() -> None:
    objective, images = setting()
    result = attacks.attacked_radius(
        "pgd", objective, images, norm="l2", eps_grid=[0.1, 0.2, 0.5], batch_size=4
    )
    assert list(result.curves) == [0.1, 0.2, 0.5]
    attacked = [~np.isnan(curve.margins[:, 0]) for curve in result.curves.values()]
    fooled = [np.isfinite(curve.norms[:, -1]) for curve in result.curves.values()]
    assert attacked[0].all()
    assert (attacked[1] == ~fooled[0]).all()
    assert (attacked[2] == (attacked[1] & ~fooled[1])).all()
