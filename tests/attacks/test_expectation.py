"""Expectation over draws: the mean it says, deterministic, counted, and better than one draw."""

from typing import Any

import pytest
import torch
from torch import nn

from robustcl import attacks
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.objectives import misclassify
from robustcl.core.threat import Threat

SHAPE = (1, 4, 4)


class _Restless(nn.Module):
    weight: torch.Tensor

    # Two classes; the lead is w.x - b + noise * n.(x - 1/2), with n drawn anew for each call.
    def __init__(self, noise: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(16, generator=generator)
        self.register_buffer("weight", weight / weight.norm())
        self.noise = noise

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        flat = images.flatten(1) - 0.5
        direction = self.weight + self.noise * torch.randn_like(flat)
        lead = (flat * direction).sum(dim=1) - 0.3
        return torch.stack([-lead / 2.0, lead / 2.0], dim=1)

    def mean_lead(self, images: torch.Tensor) -> torch.Tensor:
        return (images.flatten(1) - 0.5) @ self.weight - 0.3


def setting(noise: float = 1.0) -> tuple[_Restless, Classifier, torch.Tensor]:
    network = _Restless(noise)
    model = Classifier.from_scores(network, image_shape=SHAPE)
    return network, model, torch.full((8, *SHAPE), 0.5)


def test_it_is_the_mean_of_its_draws_and_leaves_the_generator_alone() -> None:
    _, model, images = setting()
    images = images + 0.1
    objective = attacks.expectation(misclassify(model, torch.zeros(8, dtype=torch.int64)), draws=4)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = objective.margin(images), objective.margin(images)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, second)
    other = attacks.expectation(
        misclassify(model, torch.zeros(8, dtype=torch.int64)), draws=4, seed=1
    )
    assert not torch.equal(first, other.margin(images))
    # Two classes: the margin of the mean scores is the mean of the margins.
    scores = objective.scores(images)
    torch.testing.assert_close(scores[:, 1] - scores[:, 0], first)
    assert objective.select(torch.tensor([2])).evaluations == 4


def test_the_mean_of_many_draws_is_the_expectation() -> None:
    network, model, images = setting()
    images = images + 0.1
    objective = attacks.expectation(
        misclassify(model, torch.zeros(8, dtype=torch.int64)), draws=1000
    )
    deviation = 1.0 * 0.1 * 16**0.5 / 1000**0.5
    error = (objective.margin(images) - network.mean_lead(images)).abs()
    assert float(error.max()) < 5.0 * deviation


@pytest.mark.parametrize("attack", ["pgd", "apgd", "fmn"])
def test_an_average_over_draws_finds_the_direction_that_one_draw_hides(attack: str) -> None:
    network, model, images = setting(noise=3.0)
    objective = misclassify(model, torch.zeros(8, dtype=torch.int64))
    threat = Threat("l2", 0.4)  # the mean lead is won at 0.3
    options: dict[str, Any] = {"steps": 20, "batch_size": 8}
    torch.manual_seed(0)
    hidden = attacks.run_attack(attack, objective, images, threat, **options)
    averaged = attacks.expectation(objective, draws=60)
    found = attacks.run_attack(attack, averaged, images, threat, **options)
    assert bool(found.success.all())
    assert float(network.mean_lead(found.adversarials).mean()) > float(
        network.mean_lead(hidden.adversarials).mean()
    )
    one = attacks.run_attack(
        attack, attacks.expectation(objective, draws=1), images, threat, **options
    )
    assert bool((found.gradients % 60 == 0).all()) and bool((found.gradients > 0).all())
    assert bool((one.gradients > 0).all())


def test_verdicts_can_be_measured_on_fresh_draws() -> None:
    network, model, images = setting(noise=0.5)
    objective = misclassify(model, torch.zeros(8, dtype=torch.int64))
    threat = Threat("l2", 0.4)
    found = attacks.run_attack("apgd", attacks.expectation(objective, draws=50), images, threat,
                        loss="ce", batch_size=8)  # fmt: skip
    fresh = attacks.expectation(objective, draws=1000, seed=1)
    margins = attacks.measure(fresh, found.adversarials, batch_size=8)
    assert bool(found.success.all())
    torch.testing.assert_close(margins, network.mean_lead(found.adversarials), atol=0.05, rtol=0)


def test_no_draws_are_refused() -> None:
    _, model, _ = setting()
    with pytest.raises(InputError, match="draws=0"):
        attacks.expectation(misclassify(model, torch.zeros(8, dtype=torch.int64)), draws=0)
