"""Zonotopes of gradients: above every gradient found, and not looser than intervals where small."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from robustcl.certify import output_gradients
from robustcl.certify.bounds import zonotope_slopes as generator_slopes
from robustcl.certify.bounds.preactivation_bounds import ball_bounds, center_bounds, in_type
from robustcl.certify.bounds.slopes import slope_bounds
from robustcl.certify.bounds.tracing import trace
from robustcl.certify.bounds.zonotope_slopes import best_jacobian_bounds, zonotope_jacobian_bounds
from robustcl.certify.graph import Network
from robustcl.certify.ops.enclosures import Region
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Encoder
from tests.families import FAMILIES, family, images_and_directions, perturbed

NORMS = get_args(CertifiedNorm)
RADII = {"l2": (1e-4, 0.005, 0.02, 0.1, 0.6), "linf": (1e-5, 0.0008, 0.003, 0.015, 0.09)}
DENSE_RELU = ("relu", "leaky", "prelu", "leaky_negative")


def setting(
    encoder: Encoder, radius: float, norm: CertifiedNorm, dtype: torch.dtype = torch.float64
) -> tuple[Network, list[Region]]:
    images, _ = images_and_directions()
    network = trace(encoder)
    radii = torch.full((len(images),), radius, dtype=torch.float64)
    center = center_bounds(network, images)
    if dtype != torch.float64:
        network, center = network.in_type(dtype), in_type(center, dtype)
    return network, ball_bounds(network, images, radii, center, norm=norm)


def sizes(encoder: Encoder, points: Tensor, directions: Tensor, norm: CertifiedNorm) -> Tensor:
    _, gradients = output_gradients(encoder, points)
    along = torch.einsum("bkd,bdchw->bkchw", directions, gradients).flatten(2)
    return torch.linalg.vector_norm(along, 2 if norm == "l2" else 1, dim=2)


def steepest(encoder: Encoder, directions: Tensor, radius: float, norm: CertifiedNorm) -> Tensor:
    """The largest slopes met by random points, and by a walk uphill for the first direction."""
    images, _ = images_and_directions()
    best = sizes(encoder, images, directions, norm)
    points = images.clone()
    for seed in range(12):
        moved = perturbed(images, radius, norm, seed=seed)
        middle = (points + moved) / 2.0  # halfway from the steepest point to a random one
        uphill = sizes(encoder, middle, directions, norm)
        better = uphill[:, 0] > best[:, 0]
        points[better] = middle[better]
        best = torch.maximum(best, torch.maximum(uphill, sizes(encoder, moved, directions, norm)))
    return best


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_bounds_hold_for_every_point_found(
    name: str, norm: CertifiedNorm, dtype: torch.dtype
) -> None:
    encoder = family(name)
    _, directions = images_and_directions()
    finite = 0
    for radius in RADII[norm]:
        network, regions = setting(encoder, radius, norm, dtype)
        bounds = zonotope_jacobian_bounds(network, regions, directions, norm=norm)
        assert bool((bounds >= steepest(encoder, directions, radius, norm)).all())
        finite += int(torch.isfinite(bounds).sum())
        smallest = torch.minimum(bounds, slope_bounds(network, regions, directions, norm=norm))
        assert bool(
            (best_jacobian_bounds(network, regions, directions, norm=norm) == smallest).all()
        )
    assert finite or name in ("max_pool", "max_min_scaled", "convolutional")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_small_ball_gives_the_gradient(name: str, norm: CertifiedNorm) -> None:
    encoder = family(name)
    images, directions = images_and_directions()
    network, regions = setting(encoder, 1e-6, norm)
    bounds = zonotope_jacobian_bounds(network, regions, directions, norm=norm, most=10_000)
    exact = sizes(encoder, images, directions, norm)
    torch.testing.assert_close(bounds, exact, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_float32_costs_little(name: str, norm: CertifiedNorm) -> None:
    encoder = family(name)
    _, directions = images_and_directions()
    found = []
    for dtype in (torch.float64, torch.float32):
        network, regions = setting(encoder, RADII[norm][2], norm, dtype)
        found.append(zonotope_jacobian_bounds(network, regions, directions, norm=norm))
    # All rounding goes through the norms of the layers, which is loose: up to a hundredth.
    torch.testing.assert_close(found[0], found[1], rtol=2e-2, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", DENSE_RELU)
def test_units_that_move_together_are_not_looser(name: str, norm: CertifiedNorm) -> None:
    encoder = family(name)
    _, directions = images_and_directions()
    for radius in RADII[norm][:3]:
        network, regions = setting(encoder, radius, norm)
        shared = zonotope_jacobian_bounds(network, regions, directions, norm=norm)
        plain = slope_bounds(network, regions, directions, norm=norm)
        assert bool((shared <= plain * (1 + 1e-6)).all())
    network, regions = setting(encoder, RADII[norm][3], norm)
    shared = zonotope_jacobian_bounds(network, regions, directions, norm=norm)
    plain = slope_bounds(network, regions, directions, norm=norm)
    assert float((shared / plain).median()) < 0.999


def test_one_undecided_unit_is_known_exactly() -> None:
    # x -> relu(x . p) q with its kink at the image: the largest slope along a is |p| |a.q|.
    into, inner, last = nn.Linear(2, 1), nn.Linear(1, 3), nn.Linear(3, 2)
    layers = nn.Sequential(nn.Flatten(), into, nn.ReLU(), inner, last)
    encoder = Encoder(layers, image_shape=(1, 1, 2)).double()
    for layer in (into, inner, last):
        layer.bias.data.zero_()
    network = trace(encoder)
    images = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    center = center_bounds(network, images)
    regions = ball_bounds(network, images, torch.ones(1).double(), center, norm="l2")
    directions = torch.randn(1, 5, 2, generator=torch.Generator().manual_seed(0)).double()
    found = zonotope_jacobian_bounds(network, regions, directions, norm="l2")
    exact = (directions @ last.weight @ inner.weight).abs()[..., 0] * into.weight.norm()
    torch.testing.assert_close(found, exact.detach(), rtol=1e-9, atol=0)


def test_crowded_images_are_left_out_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = family("relu")
    images, directions = images_and_directions()
    network = trace(encoder)
    radii = torch.tensor([1e-6, 0.02, 5.0], dtype=torch.float64)
    center = center_bounds(network, images)
    regions = ball_bounds(network, images, radii, center, norm="l2")
    whole = zonotope_jacobian_bounds(network, regions, directions, norm="l2")
    assert bool(torch.isfinite(whole).all())
    some = zonotope_jacobian_bounds(network, regions, directions, norm="l2", most=12)
    assert torch.isinf(some[2]).all()
    torch.testing.assert_close(some[:2], whole[:2], rtol=1e-9, atol=0)
    monkeypatch.setattr(generator_slopes, "_NUMBERS", 10)
    none = zonotope_jacobian_bounds(network, regions, directions, norm="l2")
    assert torch.isinf(none).all()


class Branches(nn.Module):
    """relu(p.x) + relu(q.x), or relu(p.x - q.x)."""

    def __init__(self, p: tuple[float, float], q: tuple[float, float], *, inside: bool) -> None:
        super().__init__()
        self.inside = inside
        self.first, self.second = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
        self.first.weight.data = torch.tensor([p])
        self.second.weight.data = torch.tensor([q])

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        first, second = self.first(flat), self.second(flat)
        if self.inside:
            return torch.relu(first) + torch.relu(second)
        return torch.relu(first - second)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("q", [(0.75, 0.5), (-1.0, 0.0), (1.0, 0.25)])
def test_branches_share_units_and_only_those(
    q: tuple[float, float], inside: bool, norm: CertifiedNorm
) -> None:
    # Rows of two branches belong to different units (inside); those of the whole meet again with
    # the branches' signs. The image is where all kinks cross, so every side is in the ball.
    encoder = Encoder(Branches((1.0, 0.0), q, inside=inside), image_shape=(1, 1, 2)).double()
    network = trace(encoder)
    image = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    center = center_bounds(network, image)
    regions = ball_bounds(network, image, torch.ones(1).double(), center, norm=norm)
    directions = torch.tensor([[[1.0], [-1.0]]], dtype=torch.float64)
    found = zonotope_jacobian_bounds(network, regions, directions, norm=norm)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(2000, 1, 1, 2, generator=generator, dtype=torch.float64)
    reached = sizes(encoder, points, directions.expand(2000, -1, -1), norm).amax(dim=0)
    assert bool((found[0] >= reached).all())
    if not inside:
        torch.testing.assert_close(found[0], reached, rtol=1e-9, atol=0)
