"""The inner problem of adversarial training: in the ball and the box, upwards, nothing left."""

import pytest
import torch
from torch import Tensor

from robustcl.core.choices import Norm
from robustcl.core.errors import InputError
from robustcl.core.threat import Threat, perturbation_norm
from tests.network import small_classifier, some_images


def coupled_loss(points: Tensor) -> Tensor:
    # Every image's term depends on the mean of the batch: a gradient row by row would miss it.
    model = small_classifier()
    features = model.raw_embeddings(points)
    return (features - features.mean(dim=0)).square().sum(dim=1)


def ascended(norm: Norm, eps: float, **options) -> tuple[Tensor, Tensor]:
    from robustcl.attacks import inner_ascent

    images = some_images(8)
    generator = torch.Generator().manual_seed(3)
    threat = Threat(norm, eps)
    return images, inner_ascent(coupled_loss, images, threat, generator=generator, **options)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("options", [{"steps": 1}, {"steps": 5}, {"steps": 3, "step_size": 2.0}])
def test_stays_in_the_ball_and_the_box(norm: Norm, options: dict) -> None:
    for eps in (8 / 255, 0.7):
        images, points = ascended(norm, eps, **options)
        assert bool((perturbation_norm(points - images, norm) <= eps * (1 + 1e-6)).all())
        assert float(points.min()) >= 0.0 and float(points.max()) <= 1.0
        assert not points.requires_grad


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_loss_rises_above_the_clean_one_and_above_noise(norm: Norm) -> None:
    eps = 0.05 if norm == "linf" else 0.5
    images, points = ascended(norm, eps)
    one = ascended(norm, eps, steps=1)[1]
    generator, threat = torch.Generator().manual_seed(0), Threat(norm, eps)
    noise = []
    for _ in range(20):
        draw = torch.randn(images.shape, generator=generator)
        draw = (
            draw.sign() if norm == "linf" else draw / draw.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        )
        noise.append(float(coupled_loss(threat.project(images, images + eps * draw)).mean()))
    clean, attacked = float(coupled_loss(images).mean()), float(coupled_loss(points).mean())
    assert attacked > max(noise) and attacked > clean
    assert clean < float(coupled_loss(one).mean()) <= attacked


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_known_gradient_saves_the_first_evaluation(norm: Norm) -> None:
    from robustcl.attacks import inner_ascent

    images, calls = some_images(4), []

    def linear(points: Tensor) -> Tensor:
        calls.append(len(points))
        return (points * slope).flatten(1).sum(dim=1)

    slope = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    generator, threat = torch.Generator().manual_seed(0), Threat(norm, 0.01, None)
    before = generator.get_state()
    free = inner_ascent(linear, images, threat, generator=generator, steps=1, gradient=slope)
    assert calls == [] and torch.equal(before, generator.get_state())
    # A linear function is highest at the rim, along its gradient: known exactly.
    best = 0.01 * (
        slope.abs().flatten(1).sum(1) if norm == "linf" else slope.flatten(1).norm(dim=1)
    )
    rise = linear(free) - linear(images)
    assert torch.allclose(rise, best, rtol=1e-3)
    many = inner_ascent(linear, images, threat, generator=generator, steps=20)
    assert torch.allclose(linear(many) - linear(images), best, rtol=1e-3)


def test_gradients_of_weights_stay_empty() -> None:
    from robustcl.attacks import inner_ascent

    model, images = small_classifier(), some_images(4)
    generator = torch.Generator().manual_seed(0)
    inner_ascent(
        lambda points: model(points)[:, 0], images, Threat("linf", 0.1), generator=generator
    )
    assert all(weight.grad is None for weight in model.parameters())
    assert images.grad is None and not images.requires_grad


def test_l1_is_refused() -> None:
    with pytest.raises(InputError, match="l2 or linf"):
        ascended("l1", 1.0)


def test_the_generator_decides() -> None:
    first, second = ascended("linf", 0.1)[1], ascended("linf", 0.1)[1]
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("eps", "options"), [(0.0, {}), (0.1, {"steps": 0}), (0.1, {"step_size": -1.0})]
)
def test_refuses_an_attack_that_moves_nothing(eps: float, options: dict) -> None:
    with pytest.raises(InputError, match="moves nothing"):
        ascended("linf", eps, **options)
