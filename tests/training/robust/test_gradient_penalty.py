"""The finite difference against closed forms and against exact derivatives."""

import math

import pytest
import torch
from torch import Tensor, nn

from robustcl.core.errors import InputError
from robustcl.training.robust import GradientPenalty, gradient_penalty
from robustcl.training.robust._gradient_penalty import (
    check_penalty_network,
    frobenius_scale,
    penalized_loss,
    random_directions,
    steepest_slopes,
)
from tests.training.robust.penalty_step import Counted, bent, step_of


def linear() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(1)
    layer = nn.Linear(32, 5).double()
    return nn.Sequential(nn.Flatten(), layer), layer.weight.detach()


def jacobians(model: nn.Module, images: Tensor, *, normalized: bool = True) -> Tensor:
    """(B, d, D) derivatives of z, or of u."""

    def outputs(image: Tensor) -> Tensor:
        raw = model(image[None])[0]
        return raw / raw.norm() if normalized else raw

    found = [torch.autograd.functional.jacobian(outputs, image) for image in images]
    return torch.stack(found).flatten(2)  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_linear_encoder_has_the_closed_form(norm, squared: bool) -> None:
    model, weight = linear()
    step = step_of(model)
    directions = steepest_slopes(step.normal(), norm=norm)
    slopes = (directions.flatten(1) @ weight.T).norm(dim=1)
    expected = slopes.square().mean() if squared else slopes.mean()
    for h in (1e-3, 0.5, 20.0):  # exact at every step
        options = {"h": h, "squared": squared, "normalized": False}
        found = gradient_penalty(model, step.views, directions, **options)
        assert float(found.detach()) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_batch_direction_is_the_steepest_of_the_loss(norm) -> None:
    model = bent().double()
    step = step_of(model, loss="supcon")
    views = step.views.clone().requires_grad_()
    loss = step.loss_at(views)[0]
    (slope,) = torch.autograd.grad(loss, views)
    found = steepest_slopes(slope, norm=norm)
    dual = slope.flatten(1).abs().sum(1) if norm == "linf" else slope.flatten(1).norm(dim=1)
    length = found.abs().amax((1, 2, 3)) if norm == "linf" else found.flatten(1).norm(dim=1)
    assert torch.allclose(length, torch.ones(12, dtype=torch.float64))
    assert torch.allclose((found * slope).sum((1, 2, 3)), dual)
    # The penalty of the whole step is the slope of z along it.
    total, parts = penalized_loss(GradientPenalty(weight=0.3, norm=norm, h=1e-3), step)
    along = jacobians(model, step.views) @ found.flatten(1)[:, :, None]
    assert float(parts["penalty"]) == pytest.approx(float(along.square().sum(1).mean()), rel=0.01)
    assert float(total) == pytest.approx(float(loss + 0.3 * parts["penalty"]), rel=1e-6)
    assert float(parts["sup_con"]) == pytest.approx(float(loss))


def test_small_slopes_keep_their_direction() -> None:
    slopes = torch.zeros(2, 1, 1, 2)
    slopes[0] = torch.tensor([3e-30, -4e-30])
    assert torch.allclose(steepest_slopes(slopes, norm="l2")[0, 0, 0], torch.tensor([0.6, -0.8]))
    assert bool((steepest_slopes(slopes, norm="l2")[1] == 0).all())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_mean_over_random_directions_is_the_frobenius_norm(norm) -> None:
    model = bent().double()
    step = step_of(model)
    image = step.views[:1]
    exact = float(jacobians(model, image).square().sum())
    many = image.expand(20_000, -1, -1, -1)
    normal = torch.randn(many.shape, generator=step.generator, dtype=torch.float64)
    directions = random_directions(normal, norm=norm)
    scale = frobenius_scale(many, norm=norm)
    with torch.no_grad():
        singles = [
            scale**2 * float(gradient_penalty(model, many[:500], part, h=1e-5))
            for part in directions.split(500)
        ]
    mean, error = torch.tensor(singles).mean(), torch.tensor(singles).std() / math.sqrt(40)
    assert error < 0.02 * exact and abs(float(mean) - exact) < 4.0 * float(error)


def test_a_random_step_is_scaled_alike() -> None:
    model, weight = linear()
    step = step_of(model)
    normal = step.normal()
    step = step_of(model, normal=lambda: normal)
    method = GradientPenalty(direction="random", normalized=False, squared=False)
    unit = normal.flatten(1) / normal.flatten(1).norm(dim=1, keepdim=True)
    expected = math.sqrt(32) * (unit @ weight.T).norm(dim=1).mean()
    assert float(penalized_loss(method, step)[1]["penalty"]) == pytest.approx(float(expected))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_gradient_is_that_of_double_backward(norm) -> None:
    # d/dw of |J d|^2 with d held fixed, by second derivatives, against the finite difference.
    model = bent().double()
    step = step_of(model)
    directions = steepest_slopes(step.normal(), norm=norm)
    weights = list(model.parameters())
    along = torch.func.jvp(
        lambda x: nn.functional.normalize(model(x), dim=1), (step.views,), (directions,)
    )[1]
    exact = torch.autograd.grad(along.square().sum(1).mean(), weights, allow_unused=True)
    found = gradient_penalty(model, step.views, directions, h=1e-5)
    slopes = torch.autograd.grad(found, weights, allow_unused=True)
    for one, other in zip(slopes, exact, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


@pytest.mark.parametrize("direction", ["batch", "random"])
def test_it_costs_one_more_forward_pass(direction: str) -> None:
    model = Counted(bent())
    step = step_of(model)
    penalized_loss(GradientPenalty(direction=direction), step)[0].backward()
    assert model.calls == 2
    assert all(weight.grad is not None for weight in model.parameters())
    assert step.views.grad is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": 0.0}, "weight 0.0 of penalty is not positive"),
        ({"weight": -1.0}, "weight -1.0"),
        ({"weight": math.inf}, "weight inf"),
        ({"weight": math.nan}, "weight nan"),
        ({"h": 0.0}, "step h 0.0"),
        ({"h": -0.1}, "step h -0.1"),
        ({"h": math.nan}, "step h nan"),
        ({"norm": "l1"}, "made for l1"),
        ({"norm": "l3"}, "unknown norm 'l3'"),
        ({"direction": "up"}, "unknown direction 'up'"),
    ],
)
def test_refuses(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GradientPenalty(**change)


def test_refuses_dropout() -> None:
    with pytest.raises(InputError, match="differ by chance"):
        check_penalty_network(nn.Sequential(bent(), nn.Dropout(0.1)))
    check_penalty_network(nn.Sequential(bent(), nn.Dropout(0.0)))
