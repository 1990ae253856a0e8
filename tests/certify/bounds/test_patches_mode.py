"""Bounds from patches are those from whole images, at every kind of border."""

import importlib
import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from robustcl.certify.bounds.layers import receptive_fields
from robustcl.certify.bounds.preactivation_bounds import center_bounds
from robustcl.certify.bounds.refined_bounds import refinable, refined_bounds
from robustcl.certify.bounds.tracing import trace
from robustcl.certify.graph import Network
from robustcl.certify.ops.affine import Affine
from robustcl.certify.ops.enclosures import Region
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Encoder
from robustcl.models.encoders import MaxMin
from tests.families import perturbed

NORMS = get_args(CertifiedNorm)
SHAPE = (2, 7, 6)
RADIUS = {"l2": 0.5, "linf": 0.1}


class Shortcut(nn.Module):
    """Two strided branches, the wider of which is read again, side by side with the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.narrow = nn.Conv2d(4, 4, 1, stride=2)
        self.wide = nn.Conv2d(4, 4, 5, stride=2, padding=2)
        self.last = nn.Conv2d(8, 3, 2)

    def forward(self, images: Tensor) -> Tensor:
        features = nn.functional.leaky_relu(self.first(images), 0.3)
        wide = self.wide(features)
        total = nn.functional.leaky_relu(self.narrow(features) - wide, 0.3)
        both = torch.cat([total, torch.tanh(wide)], dim=1)
        return torch.relu(self.last(both)).flatten(1)


def chain(bend: Callable[[], nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        bend(),
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(1, 2), groups=2),
        nn.BatchNorm2d(6),
        bend(),
        nn.Conv2d(6, 4, 3, padding=1, bias=False),
        bend(),
        nn.Flatten(),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: chain(nn.ReLU),
    "leaky": lambda: chain(lambda: nn.LeakyReLU(0.3)),
    "tanh": lambda: chain(nn.Tanh),
    "max_min": lambda: chain(MaxMin),
    "shortcut": Shortcut,
}


def traced(name: str) -> tuple[Encoder, Network]:
    torch.manual_seed(0)
    encoder = Encoder(NETWORKS[name](), image_shape=SHAPE, mean=(0.4, 0.5), std=(0.5, 0.7))
    encoder = encoder.double().eval()
    return encoder, trace(encoder)


def images_of(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64)


def refined(network: Network, images: Tensor, norm: CertifiedNorm) -> list[Region]:
    radius = torch.full((len(images),), RADIUS[norm], dtype=torch.float64)
    center = center_bounds(network, images)
    return refined_bounds(network, images, radius, center, norm=norm)


def whole(
    network: Network, images: Tensor, norm: CertifiedNorm, patch: pytest.MonkeyPatch
) -> list[Region]:
    module = importlib.import_module("robustcl.certify.bounds.refined_bounds")
    with patch.context() as context:
        context.setattr(module, "receptive_fields", lambda _: None)
        return refined(network, images, norm)


@pytest.mark.parametrize("name", NETWORKS)
def test_patches_give_the_bounds_of_whole_images(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, network = traced(name)
    steps = refinable(network, None)
    assert len(steps) >= 2
    for position in steps:  # none falls back on whole images
        part = Network(network.steps[: position + 1], network.device)
        assert receptive_fields(part) is not None
    images = images_of(3)
    found = refined(network, images, "linf")
    for own, other in zip(found, whole(network, images, "linf", monkeypatch), strict=True):
        # But for a few, where on the whole image offsets are coupled and other lines chosen.
        for one, two in ((own.low, other.low), (own.high, other.high)):
            close = torch.isclose(one, two, rtol=1e-9, atol=1e-9)
            assert float(close.double().mean()) > 0.98
            assert float((one - two).abs().max()) < 0.02


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_hidden_values_stay_inside(name: str, norm: CertifiedNorm) -> None:
    encoder, network = traced(name)
    images = images_of(2)
    region = refined(network, images, norm)[-1]
    points = [perturbed(images, RADIUS[norm], norm, seed=seed) for seed in range(30)]
    # And towards the largest and the smallest value of every number, by its gradient.
    for unit in range(0, region.low[0].numel(), 3):
        start = images.clone().requires_grad_()
        (slope,) = torch.autograd.grad(encoder(start)[:, unit].sum(), start)
        size = slope.flatten(1).norm(dim=1).clamp_min(1e-300).view(-1, 1, 1, 1)
        step = slope.sign() if norm == "linf" else (1 - 1e-12) * slope / size
        points += [images + RADIUS[norm] * step, images - RADIUS[norm] * step]
    for point in points:
        with torch.no_grad():
            value = encoder(point)
        assert bool((region.low <= value).all()) and bool((value <= region.high).all())


def test_few_patches_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    _, network = traced("leaky")
    images = images_of(3)
    together = refined(network, images, "l2")[-1]
    monkeypatch.setattr("robustcl.certify.bounds.refined_bounds.PATCHES", 1)
    monkeypatch.setattr("robustcl.certify.ops.convolution.MATRIX", 0)  # as convolutions
    alone = refined(network, images[1:2], "l2")[-1]
    torch.testing.assert_close(alone.low, together.low[1:2], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(alone.high, together.high[1:2], rtol=1e-9, atol=1e-9)


def test_a_network_beyond_the_budget_is_refined_as_far_as_layers_are_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, network = traced("relu")
    module = importlib.import_module("robustcl.certify.bounds.refined_bounds")
    counts = {p: network.steps[p].shape for p in refinable(network, None)}
    assert sorted(counts.values()) == [(4, 5, 6), (6, 5, 6)]
    monkeypatch.setattr(module, "AFFORDABLE", 0)
    monkeypatch.setattr(module, "LARGEST", 150)
    assert [network.steps[p].shape for p in refinable(network, None)] == [(4, 5, 6)]
    assert len(refinable(network, 180)) == 2


@pytest.mark.parametrize("name", ["relu", "shortcut"])
def test_norms_of_rows_are_exact_at_zero_padded_borders(name: str) -> None:
    _, network = traced(name)
    seen = 0
    for step in network.steps:
        operation = step.operation
        if not isinstance(operation, Affine) or len(step.shape) != 3 or operation.terms < 2:
            continue
        shape = network.steps[step.sources[0]].shape
        columns = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
        exact = operation.apply(columns).norm(dim=0)
        found = operation.rows.expand(1, *step.shape)[0]
        assert bool((found >= exact).all())
        torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-12)
        seen += 1
    assert seen >= 3
