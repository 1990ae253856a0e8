"""Noise stays in the ball, fills it as it says, and never beats APGD."""

import pytest
import torch

from robustcl import attacks
from robustcl.core.choices import NORMS, Norm
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective, misclassify
from robustcl.core.threat import Threat, perturbation_norm
from tests.network import small_classifier, some_images


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("norm", NORMS)
def test_noise_never_beats_apgd(norm: Norm, kind: str) -> None:
    model, images = small_classifier(), some_images(16)
    objective = misclassify(model, model(images).argmax(1))
    won = []
    for eps in (0.1, 0.4, 1.6):
        threat = Threat(norm, eps / (8.0 if norm == "linf" else 1.0))
        random = attacks.run_attack("noise", objective, images, threat, kind=kind, batch_size=16)
        aimed = attacks.run_attack("apgd", objective, images, threat, batch_size=16)
        assert bool((aimed.success | ~random.success).all())
        won.append((int(random.success.sum()), int(aimed.success.sum())))
        assert not bool(random.gradients.any())
    assert any(few < many for few, many in won)
    assert won[-1][0] > 0


def drawn(norm: Norm, kind: str) -> torch.Tensor:
    # The points that the search looks at, in a ball of radius 0.1 that the box does not cut.
    seen = []

    def margin(points: torch.Tensor) -> torch.Tensor:
        seen.append(points)
        return -points.flatten(1).sum(dim=1)

    images = torch.full((50, 1, 2, 2), 0.5, dtype=torch.float64)
    attacks.noise(Objective(margin), images, Threat(norm, 0.1), kind=kind, draws=40)
    delta = torch.cat(seen[1:]) - 0.5
    assert len(torch.unique(delta.flatten(1), dim=0)) == 2000  # no image shares its noise
    return delta


@pytest.mark.parametrize("norm", NORMS)
def test_uniform_means_uniform_in_volume(norm: Norm) -> None:
    radii = perturbation_norm(drawn(norm, "uniform"), norm) / 0.1
    assert float(radii.max()) <= 1.0 + 1e-12
    # In 4 dimensions the share of points within r is r^4; 2000 draws, five deviations.
    for radius in (0.5, 0.8, 0.95):
        share = radius**4
        tolerance = 5.0 * (share * (1.0 - share) / 2000) ** 0.5
        assert abs(float((radii <= radius).double().mean()) - share) < tolerance


@pytest.mark.parametrize("norm", NORMS)
def test_normal_noise_spends_the_whole_budget(norm: Norm) -> None:
    radii = perturbation_norm(drawn(norm, "normal"), norm)
    torch.testing.assert_close(radii, torch.full_like(radii, 0.1))


def test_options_that_do_nothing_are_refused() -> None:
    objective = Objective(lambda points: points.flatten(1).sum(dim=1))
    with pytest.raises(InputError, match="draws=0"):
        attacks.noise(objective, some_images(2), Threat("l2", 1.0), draws=0)
    with pytest.raises(InputError, match="known: normal, uniform"):
        attacks.noise(objective, some_images(2), Threat("l2", 1.0), kind="salt")
