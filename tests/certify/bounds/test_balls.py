"""Bounds over a ball: above everything found in it, exact where the ball shrinks to the image."""

from fractions import Fraction
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from robustcl.certify import output_gradients
from robustcl.certify.bounds.linear_bounds import Surroundings, lower_bounds
from robustcl.certify.bounds.networks import network_lipschitz_bound
from robustcl.certify.bounds.preactivation_bounds import ball_bounds, center_bounds, in_type
from robustcl.certify.bounds.slopes import slope_bounds
from robustcl.certify.bounds.tracing import trace
from robustcl.certify.graph import Network
from robustcl.certify.ops.enclosures import LineChoice, Region
from robustcl.certify.ops.scalar_function import RELU
from robustcl.certify.ops.scalar_linear_bounds import scalar_linear_bounds
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Encoder
from robustcl.core.errors import UnsupportedError
from tests.families import FAMILIES, family, images_and_directions, perturbed

NORMS = get_args(CertifiedNorm)
RADII = {"l2": (0.02, 0.1, 0.6), "linf": (0.003, 0.015, 0.09)}


def setting(
    name: str, radius: float, norm: CertifiedNorm, dtype: torch.dtype = torch.float64
) -> tuple[Encoder, Network, list, list, Tensor]:
    encoder = family(name)
    images, _ = images_and_directions()
    network = trace(encoder)
    radii = torch.full((len(images),), radius, dtype=torch.float64)
    center = center_bounds(network, images)
    if dtype != torch.float64:
        network, center = network.in_type(dtype), in_type(center, dtype)
    return encoder, network, center, ball_bounds(network, images, radii, center, norm=norm), radii


def inside(region: Region, values: Tensor) -> bool:
    return bool(((region.low <= values) & (values <= region.high)).all())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_trace_is_the_network(name: str) -> None:
    encoder = family(name)
    images, _ = images_and_directions()
    end = center_bounds(trace(encoder), images)[-1]
    assert inside(end, encoder(images))
    assert float((end.high - end.low).max()) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_bounds_hold_for_every_point_found(
    name: str, norm: CertifiedNorm, dtype: torch.dtype
) -> None:
    images, directions = images_and_directions()
    for radius in RADII[norm]:
        encoder, network, center, regions, radii = setting(name, radius, norm, dtype)
        slopes = slope_bounds(network, regions, directions, norm=norm)
        plain = slope_bounds(network, regions, directions, norm=norm, elementwise=False)
        around = Surroundings(network, center, regions, {})
        lower = lower_bounds(around, directions, images, radii, norm=norm)
        clean = encoder(images)
        for seed in range(12):
            points = perturbed(images, radius, norm, seed=seed)
            values, gradients = output_gradients(encoder, points)
            assert inside(regions[-1], values)
            assert bool(((values - clean).norm(dim=1) <= regions[-1].reach).all())
            along = torch.einsum("bkd,bdchw->bkchw", directions, gradients).flatten(2)
            sizes = torch.linalg.vector_norm(along, 2 if norm == "l2" else 1, dim=2)
            assert bool((sizes <= torch.minimum(slopes, plain)).all())
            assert bool((torch.einsum("bkd,bd->bk", directions, values) >= lower).all())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_lines_hold_under_gradient_descent(name: str, norm: CertifiedNorm) -> None:
    images, directions = images_and_directions()
    radius = RADII[norm][1]
    encoder, network, center, regions, radii = setting(name, radius, norm)
    lower = lower_bounds(
        Surroundings(network, center, regions, {}), directions, images, radii, norm=norm
    )
    for k in range(directions.shape[1]):
        points = images.clone()
        for step in range(15):
            points.requires_grad_()
            value = (directions[:, k] * encoder(points)).sum(dim=1)
            assert bool((value >= lower[:, k]).all())
            (slope,) = torch.autograd.grad(value.sum(), points)
            pace = radius if step == 0 else radius / 4
            if norm == "l2":
                slope = slope / slope.flatten(1).norm(dim=1).clamp_min(1e-300).view(-1, 1, 1, 1)
                delta = points.detach() - pace * slope - images
                sizes = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp_min(1e-300)
                delta = delta * (radius / sizes).clamp(max=1 - 1e-12)
            else:
                delta = (points.detach() - pace * slope.sign() - images).clamp(-radius, radius)
            points = images + delta
    slopes = slope_bounds(network, regions, directions, norm=norm)
    product = network_lipschitz_bound(encoder, norm=norm).along(directions)
    assert bool((slopes <= product * (1 + 1e-9)).all())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_float32_encloses_float64_and_costs_little(name: str, norm: CertifiedNorm) -> None:
    images, directions = images_and_directions()
    radius = RADII[norm][1]
    found = []
    for dtype in (torch.float64, torch.float32):
        _, network, center, regions, radii = setting(name, radius, norm, dtype)
        around = Surroundings(network, center, regions, {})
        lower = lower_bounds(around, directions, images, radii, norm=norm)
        found.append((slope_bounds(network, regions, directions, norm=norm), lower, center))
    (slopes, lower, center), (wide, below, rough) = found
    for exact, cast in zip(center, rough, strict=True):
        assert bool((cast.low <= exact.low).all()) and bool((exact.high <= cast.high).all())
    # Each is sound on its own; rounding may not cost more than a thousandth.
    torch.testing.assert_close(slopes, wide, rtol=2e-3, atol=1e-9)
    scale = float((lower.abs() + slopes * radius).max())
    torch.testing.assert_close(lower, below, rtol=0, atol=2e-3 * scale)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_small_ball_gives_the_gradient(name: str, norm: CertifiedNorm) -> None:
    images, directions = images_and_directions()
    encoder, network, center, regions, radii = setting(name, 1e-6, norm)
    values, gradients = output_gradients(encoder, images)
    along = torch.einsum("bkd,bdchw->bkchw", directions, gradients).flatten(2)
    sizes = torch.linalg.vector_norm(along, 2 if norm == "l2" else 1, dim=2)
    slopes = slope_bounds(network, regions, directions, norm=norm)
    torch.testing.assert_close(slopes, sizes, rtol=1e-3, atol=1e-9)
    lower = lower_bounds(
        Surroundings(network, center, regions, {}), directions, images, radii, norm=norm
    )
    fall = (torch.einsum("bkd,bd->bk", directions, values) - lower) / 1e-6
    torch.testing.assert_close(fall, sizes, rtol=1e-3, atol=1e-4)


def test_rounding_is_enclosed() -> None:
    # 1e8 x - 1e8 x + x in float64 loses eight digits; the region must know.
    layers = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.Linear(3, 1)).double()
    weight = torch.tensor([[1e8, 1.0], [1e8, 3.0], [1.0 / 3.0, 1e-9]], dtype=torch.float64)
    layers[1].weight.data = weight  # pyright: ignore[reportAttributeAccessIssue]
    layers[1].bias.data = torch.full((3,), 0.1, dtype=torch.float64)  # pyright: ignore[reportAttributeAccessIssue]
    layers[2].weight.data = torch.tensor([[1.0, -1.0, 1.0]], dtype=torch.float64)  # pyright: ignore[reportAttributeAccessIssue]
    layers[2].bias.data = torch.zeros(1, dtype=torch.float64)  # pyright: ignore[reportAttributeAccessIssue]
    encoder = Encoder(layers, image_shape=(1, 1, 2)).double()
    point = torch.tensor([[[[0.3, 0.7]]]], dtype=torch.float64)
    x = [Fraction(value) for value in point.flatten().tolist()]
    rows = [
        sum(Fraction(w) * v for w, v in zip(row, x, strict=True)) + Fraction(0.1)
        for row in weight.tolist()
    ]
    exact = rows[0] - rows[1] + rows[2]
    end = center_bounds(trace(encoder), point)[-1]
    assert Fraction(float(end.low)) <= exact <= Fraction(float(end.high))
    assert Fraction(encoder(point).item()) != exact
    assert float(end.high - end.low) > 1e-9


@pytest.mark.parametrize("low, z0", [(0.0, 0.0), (1e-3, -1e-6), (-1e-3, 1e-6)])
@pytest.mark.parametrize("weights", [(-1.0, 0.1), (-1.0, -0.1), (1.0, 0.3), (1.0, -0.3)])
def test_lines_hold_where_the_kink_is_at_the_edge(
    weights: tuple[float, float], low: float, z0: float
) -> None:
    # Regions may begin at 0, and a tightened one may leave out the computed center.
    ends = ([[low, -1.0]], [[1.0, 1.0]])
    first_end, last_end = (torch.tensor(end).double() for end in ends)
    region = Region(first_end, last_end, torch.ones(1).double())
    middle = torch.tensor([[z0, 0.2]]).double()
    center = Region(middle, middle, torch.zeros(1).double())
    weight = torch.tensor([weights]).double()
    slope, constant, lost = scalar_linear_bounds(RELU, region, weight, LineChoice(1, [center]))
    first, second = torch.meshgrid(
        torch.linspace(low, 1, 60).double(), torch.linspace(-1, 1, 60).double(), indexing="ij"
    )
    points = torch.stack([first.flatten(), second.flatten()], 1)
    points = points[(points - middle).norm(dim=1) <= 1]
    gap = points.relu() @ weight[0] - points @ slope[0] - constant + lost
    assert float(gap.min()) >= 0


def test_a_batch_norm_over_another_axis_is_not_folded() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.scale = nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, images: Tensor) -> Tensor:
            return self.scale(self.linear(images.flatten(1, 2))).flatten(1)

    torch.manual_seed(0)
    layers = Tokens()
    layers.scale.running_var.uniform_(0.1, 5.0)  # pyright: ignore[reportOptionalMemberAccess]
    encoder = Encoder(layers, image_shape=(1, 4, 4)).double().eval()
    images = torch.rand(2, 1, 4, 4).double()
    assert inside(center_bounds(trace(encoder), images)[-1], encoder(images))


def test_a_value_that_is_repeated_along_new_axes() -> None:
    class Spread(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (images + images.mean((2, 3), keepdim=True)).flatten(1)

    encoder = Encoder(Spread(), image_shape=(1, 2, 2)).double().eval()
    images = torch.rand(3, 1, 2, 2, dtype=torch.float64)
    region = center_bounds(trace(encoder), images)[-1]
    assert bool(((region.low <= encoder(images)) & (encoder(images) <= region.high)).all())
    # x -> x + mean(x) doubles what all pixels share; the norms add up to just that.
    assert network_lipschitz_bound(encoder).total == pytest.approx(2.0)


def test_random_numbers_and_weights_that_are_not_finite_are_refused() -> None:
    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) + torch.randn(4)

    with pytest.raises(UnsupportedError, match="random"):
        trace(Encoder(Noisy(), image_shape=(1, 2, 2)))
    layers = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    layers[1].weight.data[0, 0] = torch.nan  # pyright: ignore[reportArgumentType, reportIndexIssue, reportAttributeAccessIssue]
    with pytest.raises(UnsupportedError, match=r"'backbone.1.weight' is not finite"):
        trace(Encoder(layers, image_shape=(1, 2, 2)))
