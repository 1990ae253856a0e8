"""Zonotopes of gradients: above every gradient found, and not looser than intervals where small."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from certify import output_gradients
from certify.bounds import generator_slopes
from certify.bounds.generator_slopes import best_slope_bounds, generator_slope_bounds
from certify.bounds.regions import Region, ball_regions, center_regions, in_type
from certify.bounds.slopes import slope_bounds
from certify.bounds.trace import Network, trace
from robustcl import Encoder
from robustcl.threat import Norm
from tests.families import FAMILIES, family, images_and_directions, perturbed

NORMS = get_args(Norm)
RADII = {"l2": (1e-4, 0.005, 0.02, 0.1, 0.6), "linf": (1e-5, 0.0008, 0.003, 0.015, 0.09)}
DENSE_RELU = ("relu", "leaky", "prelu", "leaky_negative")


def setting(
    encoder: Encoder, radius: float, norm: Norm, dtype: torch.dtype = torch.float64
) -> tuple[Network, list[Region]]:
    images, _ = images_and_directions()
    network = trace(encoder)
    radii = torch.full((len(images),), radius, dtype=torch.float64)
    center = center_regions(network, images)
    if dtype != torch.float64:
        network, center = network.remade(dtype), in_type(center, dtype)
    return network, ball_regions(network, images, radii, center, norm=norm)


def sizes(encoder: Encoder, points: Tensor, directions: Tensor, norm: Norm) -> Tensor:
    _, gradients = output_gradients(encoder, points)
    along = torch.einsum("bkd,bdchw->bkchw", directions, gradients).flatten(2)
    return torch.linalg.vector_norm(along, 2 if norm == "l2" else 1, dim=2)


def steepest(
    encoder: Encoder, directions: Tensor, radius: float, norm: Norm, *, steps: int = 6
) -> Tensor:
    """The largest slope met by random points, and by walks uphill on smoothed-out differences."""
    images, _ = images_and_directions()
    best = sizes(encoder, images, directions, norm)
    for seed in range(24):
        points = perturbed(images, radius, norm, seed=seed)
        best = torch.maximum(best, sizes(encoder, points, directions, norm))
    generator = torch.Generator().manual_seed(0)
    points = images.clone()
    value = sizes(encoder, points, directions, norm)[:, 0]
    for _ in range(steps):  # a random search for the first direction, kept in the ball
        noise = perturbed(torch.zeros_like(images), radius, norm, seed=1)
        noise = noise * torch.randn(images.shape, generator=generator, dtype=torch.float64).sign()
        moved = images + 0.5 * (points - images) + 0.5 * noise
        found = sizes(encoder, moved, directions, norm)
        better = found[:, 0] > value
        points[better], value = moved[better], torch.maximum(value, found[:, 0])
        best = torch.maximum(best, found)
    return best


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_bounds_hold_for_every_point_found(name: str, norm: Norm, dtype: torch.dtype) -> None:
    encoder = family(name)
    _, directions = images_and_directions()
    finite = 0
    for radius in RADII[norm]:
        network, regions = setting(encoder, radius, norm, dtype)
        bounds = generator_slope_bounds(network, regions, directions, norm=norm)
        assert bool((bounds >= steepest(encoder, directions, radius, norm)).all())
        finite += int(torch.isfinite(bounds).sum())
        smallest = torch.minimum(bounds, slope_bounds(network, regions, directions, norm=norm))
        assert bool((best_slope_bounds(network, regions, directions, norm=norm) == smallest).all())
    assert finite or name in ("max_pool", "max_min_scaled", "convolutional")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_small_ball_gives_the_gradient(
    name: str, norm: Norm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator_slopes, "MOST", 10_000)
    encoder = family(name)
    images, directions = images_and_directions()
    network, regions = setting(encoder, 1e-6, norm)
    bounds = generator_slope_bounds(network, regions, directions, norm=norm)
    exact = sizes(encoder, images, directions, norm)
    torch.testing.assert_close(bounds, exact, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_float32_costs_little(name: str, norm: Norm) -> None:
    encoder = family(name)
    _, directions = images_and_directions()
    found = []
    for dtype in (torch.float64, torch.float32):
        network, regions = setting(encoder, RADII[norm][2], norm, dtype)
        found.append(generator_slope_bounds(network, regions, directions, norm=norm))
    # All rounding goes through the norms of the layers, which is loose: up to a hundredth.
    torch.testing.assert_close(found[0], found[1], rtol=2e-2, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", DENSE_RELU)
def test_units_that_move_together_are_not_looser(name: str, norm: Norm) -> None:
    encoder = family(name)
    _, directions = images_and_directions()
    for radius in RADII[norm][:3]:
        network, regions = setting(encoder, radius, norm)
        shared = generator_slope_bounds(network, regions, directions, norm=norm)
        plain = slope_bounds(network, regions, directions, norm=norm)
        assert bool((shared <= plain * (1 + 1e-6)).all())
    network, regions = setting(encoder, RADII[norm][3], norm)
    shared = generator_slope_bounds(network, regions, directions, norm=norm)
    plain = slope_bounds(network, regions, directions, norm=norm)
    assert float((shared / plain).median()) < 0.999


def test_one_undecided_unit_is_known_exactly() -> None:
    # x -> relu(x . p) q with its kink at the image: the largest slope along a is |p| |a.q|.
    layers = nn.Sequential(
        nn.Flatten(), nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 3), nn.Linear(3, 2)
    )
    encoder = Encoder(layers, image_shape=(1, 1, 2)).double()
    for layer in (layers[1], layers[3], layers[4]):
        layer.bias.data.zero_()  # pyright: ignore[reportAttributeAccessIssue]
    network = trace(encoder)
    images = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    center = center_regions(network, images)
    regions = ball_regions(network, images, torch.ones(1).double(), center, norm="l2")
    directions = torch.randn(1, 5, 2, generator=torch.Generator().manual_seed(0)).double()
    found = generator_slope_bounds(network, regions, directions, norm="l2")
    p, last = layers[1].weight, layers[4].weight @ layers[3].weight  # pyright: ignore
    exact = (directions @ last).abs()[..., 0] * p.norm()  # pyright: ignore
    torch.testing.assert_close(found, exact.detach(), rtol=1e-9, atol=0)


def test_crowded_images_are_left_out_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = family("relu")
    images, directions = images_and_directions()
    network = trace(encoder)
    radii = torch.tensor([1e-6, 0.02, 5.0], dtype=torch.float64)
    center = center_regions(network, images)
    regions = ball_regions(network, images, radii, center, norm="l2")
    whole = generator_slope_bounds(network, regions, directions, norm="l2")
    assert bool(torch.isfinite(whole).all())
    monkeypatch.setattr(generator_slopes, "MOST", 12)
    some = generator_slope_bounds(network, regions, directions, norm="l2")
    assert torch.isinf(some[2]).all()
    torch.testing.assert_close(some[:2], whole[:2], rtol=1e-9, atol=0)
    monkeypatch.setattr(generator_slopes, "NUMBERS", 10)
    none = generator_slope_bounds(network, regions, directions, norm="l2")
    assert torch.isinf(none).all()
