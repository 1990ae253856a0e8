"""The cone around a class: exact where h is a rotation of the image."""

import math

import pytest
import torch
from torch import nn

from robustcl.certify import geodesic, product
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import UnsupportedError
from robustcl.models.heads import LinearHead
from tests.families import family, images_and_directions


def plane(weight: list[list[float]], bias: list[float]) -> Classifier:
    """Two pixels turned by 0.7, so that h moves exactly as far as the image."""
    turn = torch.tensor([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]])
    layers = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).double()
    layers[1].weight.data = turn.double()  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    head = LinearHead(torch.tensor(weight).double(), torch.tensor(bias).double())
    return Classifier(Encoder(layers, image_shape=(1, 1, 2)), head).double().eval()


@pytest.mark.parametrize(
    "bias", [(0.0, 0.0), (0.0, 0.4), (0.3, -0.2), (0.0, 1.2), (0.0, 3.0), (3.0, 0.0)]
)
def test_is_the_distance_to_the_edge_of_the_cone(bias: tuple[float, float]) -> None:
    model = plane([[1.0, 0.2], [-0.5, 1.0]], list(bias))
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(12, 1, 1, 2, generator=generator, dtype=torch.float64)
    claim = geodesic(model, images)
    angles = torch.arange(0, 2 * math.pi, 1e-4, dtype=torch.float64)
    rays = torch.stack([angles.cos(), angles.sin()], 1)
    classes = model(rays.view(-1, 1, 1, 2)).argmax(1)
    for image, predicted, radius in zip(images, claim.predicted, claim.radius, strict=True):
        others = rays[classes != predicted]
        point = image.flatten()
        if not len(others):  # no direction lets the other class win; the origin has none
            assert float(radius) == pytest.approx(float(point.norm()), rel=1e-6)
            continue
        along = (others @ point).clamp_min(0.0)
        distance = (point - along[:, None] * others).norm(dim=1).min()
        assert float(radius) <= float(distance)
        assert float(radius) == pytest.approx(float(distance), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("bias", [(0.0, 0.0), (0.0, 0.4), (0.0, 1.2), (0.3, -0.2)])
@pytest.mark.parametrize("tilt", [0.0, 1.5, 3.0, 4.5])
def test_never_exceeds_the_distance_to_the_edge_to_the_last_digits(bias, tilt: float) -> None:
    rotation = torch.tensor([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
    weight = torch.tensor([[1.0, 0.2], [-0.5, 1.0]]).double() @ rotation.double()
    weight = weight.float().double()  # as the head keeps it
    model = plane(weight.tolist(), list(bias))
    axis = weight[0] - weight[1]
    offset = (torch.tensor(bias)[0] - torch.tensor(bias)[1]).double() / axis.norm()
    places = torch.linspace(0.0, math.pi / 2, 31, dtype=torch.float64)
    rays = torch.stack([places.cos(), places.sin()], dim=1).clamp_min(0.0)
    claim = geodesic(model, 0.8 * rays.view(-1, 1, 1, 2))
    # Class 0 is ahead within acos(-c / |a|) of its axis.
    turned = places - (torch.atan2(axis[1], axis[0]) - 0.7)
    turned = (torch.remainder(turned + math.pi, 2 * math.pi) - math.pi).abs()
    edge = torch.acos(-offset)
    exact = 0.8 * torch.sin((turned - edge).abs().clamp(max=math.pi / 2))
    assert torch.equal(claim.predicted == 0, turned < edge)
    assert bool((claim.radius <= exact * (1 + 1e-12)).all())
    torch.testing.assert_close(claim.radius, exact, rtol=1e-5, atol=2e-7)


def test_twins_that_tie_are_claimed_nothing() -> None:
    weight = [[1.0, 0.2], [1.0, 0.2], [-0.5, 1.0]]
    image = torch.tensor([0.8, 0.1], dtype=torch.float64).view(1, 1, 1, 2)
    for offset, ties in ((0.0, True), (-0.1, False)):
        claim = geodesic(plane(weight, [0.0, offset, 0.0]), image)
        assert claim.predicted.tolist() == [0]
        assert (float(claim.radius) == 0.0) == ties


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_product_is_never_below_it(norm: str) -> None:
    encoder = family("residual")
    images, _ = images_and_directions(6)
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(4, 6, generator=generator).double()
    for bias in (torch.zeros(4), 0.3 * torch.randn(4, generator=generator)):
        model = Classifier(encoder, LinearHead(weight, bias.double())).double().eval()
        own, whole = geodesic(model, images, norm=norm), product(model, images, norm=norm)  # pyright: ignore[reportArgumentType]
        assert bool((own.radius <= whole.radius).all()) and bool((own.radius > 0).any())
        assert torch.equal(own.predicted, model(images).argmax(1))


def test_scores_that_are_not_read_off_the_sphere_are_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    model = Classifier.from_scores(network, image_shape=(1, 2, 2))
    with pytest.raises(UnsupportedError, match="angles on the sphere"):
        geodesic(model, torch.rand(1, 1, 2, 2))
