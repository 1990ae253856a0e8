"""Projected points are allowed after rounding, and spend the budget."""

import pytest
import torch

from robustcl import attacks
from robustcl.attacks.nearest import TOLERANCE
from robustcl.core.choices import NORMS, Norm
from robustcl.core.objectives import Objective
from robustcl.core.threat import Threat, perturbation_norm


@pytest.mark.parametrize("eps", [1e-4, 1e-3, 0.004, 8 / 255, 0.5])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("box", [None, (0.0, 1.0)])
def test_rounding_does_not_leave_the_ball(
    norm: Norm, eps: float, box: tuple[float, float] | None
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(200, 3, 8, 8, generator=generator)
    far = images + 3.0 * torch.randn(images.shape, generator=generator)
    threat = Threat(norm, eps, box)
    moved = threat.project(images, far)
    norms, budget = perturbation_norm(moved - images, norm), threat.radii(images).double()
    assert bool((norms <= budget * (1.0 + TOLERANCE)).all())
    if box is None:
        assert bool((norms >= budget - 4e-7).all())
    else:
        assert bool(((moved >= 0) & (moved <= 1)).all())
    again = perturbation_norm(threat.project(images, moved) - images, norm)
    assert bool((again <= budget * (1.0 + TOLERANCE)).all())
    assert bool((again >= norms - 4e-7).all())


@pytest.mark.parametrize("norm", NORMS)
def test_small_budgets_in_float32_count(norm: Norm) -> None:
    # An ascending pixel sum is won at any budget, by points on the very edge of the ball.
    images = 0.5 + 0.4 * torch.rand(50, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    start = images.double().flatten(1).sum(dim=1)
    eps = 0.004  # 67108.864 widths of a pixel, so that x + eps is rounded up
    gain = eps * {"linf": 192.0, "l2": 192.0**0.5, "l1": 1.0}[norm]

    def aim(rows: torch.Tensor):
        return lambda points: points.double().flatten(1).sum(dim=1) - start[rows] - 0.999 * gain

    objective = Objective(aim(torch.arange(50)), aim=aim)
    for attack in ("pgd", "apgd"):
        result = attacks.run_attack(attack, objective, images, Threat(norm, eps), batch_size=16)
        assert bool(result.success.all()), attack
