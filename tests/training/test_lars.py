"""LARS against its definition, number by number."""

import math

import pytest
import torch
from torch import nn

from robustcl.training.optimizers import Lars

MOMENTUM, DECAY, TRUST, RATES = 0.8, 0.03, 0.01, (0.5, 1.5, 0.2)


def reference(weight: list[float], slopes: list[list[float]], *, adapts: bool) -> list[float]:
    velocity = [0.0] * len(weight)
    for rate, slope in zip(RATES, slopes, strict=True):
        size, steepness = (math.sqrt(sum(x * x for x in row)) for row in (weight, slope))
        scale, decay = 1.0, DECAY if adapts else 0.0
        if adapts and size > 0 and steepness > 0:
            scale = TRUST * size / (steepness + DECAY * size)
        for i, (w, g) in enumerate(zip(weight, slope, strict=True)):
            velocity[i] = MOMENTUM * velocity[i] + rate * scale * (g + decay * w)
        weight = [w - v for w, v in zip(weight, velocity, strict=True)]
    return weight


@pytest.mark.parametrize(
    ("shape", "adapts"), [((4, 3), True), ((2, 3, 2, 1), True), ((12,), False)]
)
@pytest.mark.parametrize("zero", [None, "weight", "slope"])
def test_steps_are_those_of_the_paper(
    shape: tuple[int, ...], adapts: bool, zero: str | None
) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(4, 12, generator=generator, dtype=torch.float64)
    if zero is not None:
        draw[0 if zero == "weight" else 1] = 0.0
    weight = nn.Parameter(draw[0].view(shape).clone())
    optimizer = Lars([weight], lr=9.0, momentum=MOMENTUM, weight_decay=DECAY, trust=TRUST)
    for rate, slope in zip(RATES, draw[1:], strict=True):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = slope.view(shape).clone()
        optimizer.step()
    wanted = reference(draw[0].tolist(), draw[1:].tolist(), adapts=adapts)
    assert weight.detach().flatten().tolist() == pytest.approx(wanted, rel=1e-12)


def test_the_first_step_does_not_depend_on_the_size_of_the_gradient() -> None:
    moved = []
    for factor in (1.0, 1e4):
        weight = nn.Parameter(torch.arange(6.0, dtype=torch.float64).view(2, 3))
        weight.grad = factor * torch.ones(2, 3, dtype=torch.float64)
        Lars([weight], lr=1.0).step()
        moved.append(weight.detach())
    assert torch.allclose(moved[0], moved[1], rtol=1e-12)


def test_weights_without_gradient_stay() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    Lars([weight], lr=1.0, weight_decay=1.0).step()
    assert torch.equal(weight, torch.ones(2, 2))
