"""Slopes and prices that are chosen: never below plain lines, never above what is found."""

from typing import get_args

import pytest
import torch
from torch import nn

from robustcl.certify.bounds.alpha_crown import optimized_lower_bounds, split_lower_bounds
from robustcl.certify.bounds.linear_bounds import Surroundings, lower_bounds
from robustcl.certify.bounds.preactivation_bounds import ball_bounds, center_bounds
from robustcl.certify.bounds.tracing import trace
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Encoder
from tests.families import family, images_and_directions, perturbed

NORMS = get_args(CertifiedNorm)
RADII = {"l2": 0.25, "linf": 0.04}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["relu", "leaky_negative", "gelu", "max_min_scaled", "residual"])
def test_bounds_rise_and_still_hold(name: str, norm: CertifiedNorm) -> None:
    encoder = family(name)
    images, directions = images_and_directions()
    network, radii = trace(encoder), torch.full((len(images),), RADII[norm]).double()
    center = center_bounds(network, images)
    around = Surroundings(
        network, center, ball_bounds(network, images, radii, center, norm=norm), {}
    )
    plain = lower_bounds(around, directions, images, radii, norm=norm)
    tuned = optimized_lower_bounds(around, directions, images, radii, norm=norm, steps=8)
    split = split_lower_bounds(around, directions, images, radii, norm=norm, steps=8, splits=3)
    assert bool((tuned >= plain).all())
    if name in ("relu", "leaky_negative"):
        assert bool((tuned > plain + 1e-6).any())
        assert float((split - tuned).mean()) > 1e-3
    least = torch.full_like(plain, torch.inf)
    for seed in range(40):
        points = perturbed(images, RADII[norm], norm, seed=seed)
        values = torch.einsum("bkd,bd->bk", directions, encoder(points))
        least = torch.minimum(least, values)
    for k in range(directions.shape[1]):  # and the lowest point that gradients lead to
        points = images.clone()
        for _ in range(25):
            points.requires_grad_()
            value = (directions[:, k] * encoder(points)).sum(dim=1)
            least[:, k] = torch.minimum(least[:, k], value.detach())
            (slope,) = torch.autograd.grad(value.sum(), points)
            if norm == "linf":
                pace = 0.4 * RADII[norm] * slope.sign()
                delta = (points.detach() - pace - images).clamp(-RADII[norm], RADII[norm])
            else:
                slope = slope / slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                delta = points.detach() - 0.4 * RADII[norm] * slope - images
                sizes = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                delta = delta * (RADII[norm] / sizes).clamp(max=1 - 1e-12)
            points = images + delta
    assert bool((tuned <= least).all()) and bool((split <= least).all())


def test_parts_by_all_signs_are_exact_in_one_dimension() -> None:
    # f(x) = |x - .2| - |x + .1| + relu(x) on [-1, 1]: four lines, least at x = 1 or at a kink.
    layers = nn.Sequential(nn.Flatten(), nn.Linear(1, 5), nn.ReLU(), nn.Linear(5, 1)).double()
    weights = [[1.0], [-1.0], [1.0], [-1.0], [1.0]]
    layers[1].weight.data = torch.tensor(weights).double()  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    layers[1].bias.data = torch.tensor([-0.2, 0.2, 0.1, -0.1, 0.0]).double()  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    layers[3].weight.data = torch.tensor([[1.0, 1.0, -1.0, -1.0, 1.0]]).double()  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    layers[3].bias.data.zero_()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    encoder = Encoder(layers, image_shape=(1, 1, 1)).double().eval()
    image, radius = torch.zeros(1, 1, 1, 1).double(), torch.ones(1).double()
    grid = torch.linspace(-1, 1, 2001).double().view(-1, 1, 1, 1)
    direction = torch.ones(1, 1, 1).double()
    network = trace(encoder)
    center = center_bounds(network, image)
    regions = ball_bounds(network, image, radius, center, norm="l2")
    around = Surroundings(network, center, regions, {})
    plain = lower_bounds(around, direction, image, radius, norm="l2")
    split = split_lower_bounds(around, direction, image, radius, norm="l2", steps=120, splits=5)
    least = float(encoder(grid).min())
    assert float(plain) < least - 0.1
    assert float(split) <= least
    assert float(split) == pytest.approx(least, abs=0.02)
