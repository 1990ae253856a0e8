"""Regions by lines of every unit: sound, never wider, and tighter where it counts."""

import importlib
from typing import get_args

import pytest
import torch
from torch import nn

from robustcl.certify import certified_radius, crown, local, parse_method
from robustcl.certify.bounds.preactivation_bounds import ball_bounds, center_bounds
from robustcl.certify.bounds.refined_bounds import refined_bounds
from robustcl.certify.bounds.tracing import trace
from robustcl.certify.ops.enclosures import Region
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from tests.exact_radius import exact_radius
from tests.families import perturbed

NORMS = get_args(CertifiedNorm)
RADIUS = {"l2": 0.4, "linf": 0.08}
KINDS = {"ReLU": nn.ReLU, "LeakyReLU": nn.LeakyReLU, "GELU": nn.GELU, "Tanh": nn.Tanh}


def layers(kind: str = "ReLU", *, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    bend = KINDS[kind]
    inner = [nn.Linear(16, 12), bend(), nn.Linear(12, 10), bend(), nn.Linear(10, 4)]
    return nn.Sequential(nn.Flatten(), *inner).double().eval()


def enclosed(
    network: nn.Sequential, norm: CertifiedNorm, largest: int
) -> tuple[torch.Tensor, Region]:
    # The images and the region of what the second bend reads.
    steps = trace(Encoder(network, image_shape=(1, 4, 4)).double().eval())
    images = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    radius = torch.full((5,), RADIUS[norm], dtype=torch.float64)
    center = center_bounds(steps, images)
    found = refined_bounds(steps, images, radius, center, norm=norm, largest=largest)
    whole = ball_bounds(steps, images, radius, center, norm=norm)
    for own, plain in zip(found, whole, strict=True):
        assert bool((own.low >= plain.low - 1e-12).all())  # intervals round
        assert bool((own.high <= plain.high + 1e-12).all())
    (position,) = [i for i, step in enumerate(steps.steps) if step.shape == (10,)][:1]
    return images, found[position]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_hidden_values_stay_inside(kind: str, norm: CertifiedNorm) -> None:
    network = layers(kind)
    images, region = enclosed(network, norm, 128)
    # Towards the largest and the smallest value of every unit, by ascent from the image.
    for sign in (1.0, -1.0):
        for unit in range(10):
            points = images.clone()
            for seed in range(8):
                points = points.detach().requires_grad_()
                value = network[:4](points)
                assert bool((region.low <= value).all()) and bool((value <= region.high).all())
                (slope,) = torch.autograd.grad(sign * value[:, unit].sum(), points)
                if norm == "linf":
                    points = images + RADIUS[norm] * slope.sign()
                else:
                    size = slope.flatten(1).norm(dim=1).clamp_min(1e-300).view(-1, 1, 1, 1)
                    points = images + RADIUS[norm] * (1 - 1e-12) * slope / size
                values = network[:4](perturbed(images, RADIUS[norm], norm, seed=seed))
                assert bool((region.low <= values).all()) and bool((values <= region.high).all())


@pytest.mark.parametrize("norm", NORMS)
def test_open_units_are_tightened_and_decided_ones_left(norm: CertifiedNorm) -> None:
    network = layers()
    (_, plain), (_, fine) = enclosed(network, norm, 0), enclosed(network, norm, 128)
    is_open = (plain.low <= 0) & (plain.high > 0)
    assert 0 < int(is_open.sum()) < is_open.numel()
    narrower = (fine.high - fine.low) / (plain.high - plain.low)
    assert float(narrower[is_open].median()) < 0.9
    assert bool((narrower[~is_open] == 1.0).all())


def test_an_image_alone_gets_the_same() -> None:
    model = Classifier.from_scores(layers(), image_shape=(1, 4, 4)).double()
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(2)).double()
    together = crown(model, images).radius
    alone = torch.cat([crown(model, image[None]).radius for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-9, atol=0)


def test_few_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    network = layers()
    _, whole = enclosed(network, "l2", 128)
    monkeypatch.setattr("robustcl.certify.bounds.refined_bounds._NUMBERS", 1)
    _, parts = enclosed(network, "l2", 128)
    torch.testing.assert_close(parts.low, whole.low, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts.high, whole.high, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_units_raise_radii_and_never_above_the_exact_one(norm: CertifiedNorm) -> None:
    model = Classifier.from_scores(layers(), image_shape=(1, 4, 4)).double()
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(2)).double()
    exact = torch.tensor([exact_radius(model, image, norm=norm) for image in images])
    for method, gain in ((local, 1.001), (crown, 1.02), (certified_radius, 1.01)):
        plain = method(model, images, norm=norm, units=0).radius
        fine = method(model, images, norm=norm, units=128).radius
        assert bool((fine <= exact * (1 + 1e-7)).all())
        assert float((fine / plain).mean()) > gain
    with pytest.raises(InputError, match="units -1 is below 0"):
        certified_radius(model, images, norm=norm, units=-1)


@pytest.mark.parametrize("norm", NORMS)
def test_tiny_networks_get_slopes_and_splits_unasked(norm: CertifiedNorm) -> None:
    torch.manual_seed(0)
    two = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
    model = Classifier.from_scores(two, image_shape=(1, 4, 4)).double()
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(2)).double()
    exact = torch.tensor([exact_radius(model, image, norm=norm) for image in images])
    without = certified_radius(model, images, norm=norm, slope_steps=0).radius
    found = certified_radius(model, images, norm=norm).radius
    assert float((found / without).mean()) > 1.01
    assert bool((found <= exact * (1 + 1e-7)).all())
    assert float((found / exact).median()) >= 0.9


def test_large_networks_are_refined_on_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("robustcl.certify._local"), "SMALL", 0)
    model = Classifier.from_scores(layers(), image_shape=(1, 4, 4)).double()
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(2)).double()
    exact = torch.tensor([exact_radius(model, image, norm="l2") for image in images])
    plain, asked = (local(model, images, units=units).radius for units in (128, 129))
    assert float((asked / plain).mean()) > 1.01
    assert bool((asked <= exact * (1 + 1e-7)).all())


def test_options_without_a_number_as_default_are_checked() -> None:
    with pytest.raises(InputError, match="slope_steps is 'many'; expected a number"):
        parse_method("sound:slope_steps=many")
    with pytest.raises(InputError, match=r"splits is 1.5; expected a whole number"):
        parse_method("sound:splits=1.5")
