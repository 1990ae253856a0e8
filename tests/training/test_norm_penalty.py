"""The penalty against norms of materialized layers."""

import math

import pytest
import torch
from torch import nn

from robustcl.core.errors import UnsupportedError
from robustcl.training import log_norm_penalty, norm_probes


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(27, 5),
    )


def materialized_norm(layer: nn.Module, shape: tuple[int, ...]) -> float:
    size = math.prod(shape)
    unit = torch.eye(size).view(size, *shape)
    with torch.no_grad():
        columns = layer(unit) - layer(torch.zeros(1, *shape))
    return float(torch.linalg.matrix_norm(columns.flatten(1), 2))


def test_equals_the_materialized_product() -> None:
    layers = chain()
    probes = norm_probes(layers, image_shape=(2, 6, 6), generator=torch.Generator().manual_seed(1))
    embeddings = layers(torch.rand(7, 2, 6, 6))
    for _ in range(100):
        log_norm_penalty(embeddings, probes)
    shapes = [(2, 6, 6), (4, 6, 6), (27,)]
    product = math.prod(
        materialized_norm(probe.layer, shape) for probe, shape in zip(probes, shapes, strict=True)
    )
    expected = math.log(product / float(embeddings.detach().norm(dim=1).mean()))
    assert float(log_norm_penalty(embeddings, probes).detach()) == pytest.approx(expected, abs=1e-4)


def test_gradient_is_that_of_the_top_singular_value() -> None:
    torch.manual_seed(1)
    linear = nn.Linear(6, 4, bias=False)
    probes = norm_probes(
        nn.Sequential(linear), image_shape=(1, 1, 6), generator=torch.Generator().manual_seed(2)
    )
    fixed = torch.ones(3, 4)
    for _ in range(200):
        log_norm_penalty(fixed, probes)
    log_norm_penalty(fixed, probes).backward()
    left, values, right = torch.linalg.svd(linear.weight.detach())
    expected = torch.outer(left[:, 0], right[0]) / values[0]
    assert linear.weight.grad is not None
    assert torch.allclose(linear.weight.grad, expected, atol=1e-3)


def test_refuses_what_it_cannot_bound() -> None:
    generator = torch.Generator()
    with pytest.raises(UnsupportedError, match="BatchNorm2d"):
        norm_probes(nn.Sequential(nn.BatchNorm2d(1)), image_shape=(1, 4, 4), generator=generator)
    with pytest.raises(UnsupportedError, match="Sequential"):
        norm_probes(nn.Linear(3, 3), image_shape=(1, 1, 3), generator=generator)
