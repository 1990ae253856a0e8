"""The default certificate is no smaller than that of a plain CROWN on a wide network."""

from dataclasses import dataclass
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from robustcl.certify import certified_radius, crown
from robustcl.certify.bounds.refined_bounds import LARGEST
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier

NORMS = get_args(CertifiedNorm)
SHAPE = (1, 6, 6)
CLASSES = 4


@dataclass(frozen=True, eq=False)
class Line:
    """weight x + bias, for the whole network or a part of it."""

    weight: Tensor
    bias: Tensor


def network() -> nn.Sequential:
    """Fit two convolutions, the second with more numbers than `LARGEST`, to random labels."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, CLASSES),
    )
    return layers.double().eval()


def lines_of(layers: nn.Sequential) -> list[Line]:
    """Write every affine part between two ReLUs as a matrix."""
    first, second, last = layers[:1], layers[2:3], layers[4:]
    found = []
    for part, shape in ((first, SHAPE), (second, (8, 6, 6)), (last, (16, 3, 3))):
        still = torch.zeros(1, *shape, dtype=torch.float64)
        size = still.numel()
        with torch.no_grad():
            bias = part(still).flatten()
            columns = part(torch.eye(size, dtype=torch.float64).view(size, *shape)).flatten(1)
        found.append(Line((columns - bias).T, bias))
    return found


def plain_crown(lines: list[Line], image: Tensor, radius: float, norm: CertifiedNorm) -> Tensor:
    """Bound the last line's values from below, every hidden value by a backward pass before."""
    boxes: list[tuple[Tensor, Tensor]] = []
    for depth in range(len(lines)):
        low = lowest(lines[: depth + 1], boxes, image, radius, norm)
        flipped = [*lines[:depth], Line(-lines[depth].weight, -lines[depth].bias)]
        boxes.append((low, -lowest(flipped, boxes, image, radius, norm)))
    return boxes[-1][0]


def lowest(
    lines: list[Line],
    boxes: list[tuple[Tensor, Tensor]],
    image: Tensor,
    radius: float,
    norm: CertifiedNorm,
) -> Tensor:
    """Pull the last line back to the image through lines around every ReLU."""
    slope, constant = lines[-1].weight, lines[-1].bias
    for line, (low, high) in zip(lines[-2::-1], boxes[: len(lines) - 1][::-1], strict=True):
        low, high = low.clamp_max(0.0), high.clamp_min(0.0)
        chord = high / (high - low).clamp_min(1e-300)
        touching = (high > -low).double()
        constant = constant - (slope.clamp_max(0.0) * chord * low).sum(dim=1)
        slope = slope.clamp_min(0.0) * touching + slope.clamp_max(0.0) * chord
        constant = constant + slope @ line.bias
        slope = slope @ line.weight
    size = slope.norm(2 if norm == "l2" else 1, dim=1)
    return constant + slope @ image.flatten() - radius * size


def plain_radius(layers: nn.Sequential, image: Tensor, norm: CertifiedNorm) -> float:
    """Bisect for the largest radius at which all margins stay positive."""
    *inner, last = lines_of(layers)
    predicted = int(layers(image[None]).argmax())
    others = [k for k in range(CLASSES) if k != predicted]
    margins = Line(
        last.weight[predicted] - last.weight[others], last.bias[predicted] - last.bias[others]
    )
    low, high = 0.0, 2.0
    for _ in range(30):
        middle = (low + high) / 2.0
        holds = bool((plain_crown([*inner, margins], image, middle, norm) > 0).all())
        low, high = (middle, high) if holds else (low, middle)
    return low


@pytest.mark.parametrize("norm", NORMS)
def test_sound_is_no_smaller_than_plain_crown(norm: CertifiedNorm) -> None:
    layers = network()
    model = Classifier.from_scores(layers, image_shape=SHAPE).double()
    images = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    theirs = torch.tensor([plain_radius(layers, image, norm) for image in images])
    assert lines_of(layers)[1].bias.numel() > LARGEST
    for method in (crown, certified_radius):
        ours = method(model, images, norm=norm).radius
        # Both searches end within 1 % of where the bound vanishes.
        assert float((ours / theirs).min()) >= 0.985
        assert float((ours / theirs).median()) >= 0.99
    few = certified_radius(model, images, norm=norm, units=0).radius
    assert float((few / theirs).median()) < 0.97 or norm == "l2"
