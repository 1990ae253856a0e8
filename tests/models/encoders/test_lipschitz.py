"""The network is 1-Lipschitz: by singular values of its layers, by pairs, and by our bound."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustcl.certify.bounds.networks import network_lipschitz_bound
from robustcl.core.classifier import Encoder
from robustcl.core.errors import InputError, UnsupportedError
from robustcl.models.encoders import ARCHITECTURES, MaxMin, lipschitz_convnet
from robustcl.models.encoders.sorted_halves import SortedHalves, to_halves, to_pairs

SMALL: dict[str, Any] = {"channels": 1, "image_size": 8, "width": 4, "hidden": 6}
SHAPES = [SMALL, {**SMALL, "overlapping": 1}, {**SMALL, "image_size": 28, "channels": 3}]


def shaken(**arguments: Any) -> nn.Sequential:
    torch.manual_seed(0)
    network = lipschitz_convnet(**{"embedding_size": 5, **arguments}).double()
    for value in network.parameters():
        if value.ndim == 1:
            nn.init.normal_(value)
    return network


def pictures(count: int, arguments: dict[str, Any]) -> Tensor:
    side = arguments["image_size"]
    generator = torch.Generator().manual_seed(1)
    return torch.rand(
        count, arguments["channels"], side, side, generator=generator, dtype=torch.float64
    )


@pytest.mark.parametrize("arguments", SHAPES)
def test_singular_values_of_every_operator_are_at_most_one(arguments: dict[str, Any]) -> None:
    value = pictures(1, arguments)
    for layer in shaken(**arguments):
        after = layer(value)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            zeros = torch.eye(value.numel(), dtype=torch.float64).view(-1, *value.shape[1:])
            offset = layer(torch.zeros_like(value))
            matrix = (layer(zeros) - offset).detach().flatten(1)
            largest = torch.linalg.svdvals(matrix).max()
            assert float(largest) == pytest.approx(1.0, abs=1e-6)
        value = after


@pytest.mark.parametrize("arguments", SHAPES)
def test_distances_do_not_grow(arguments: dict[str, Any]) -> None:
    network, images = shaken(**arguments), pictures(40, arguments)
    points = network(images)
    assert points.shape == (40, 5)
    between = torch.pdist(images.flatten(1))
    assert bool((torch.pdist(points) <= between * (1 + 1e-6)).all())
    side = arguments["image_size"]
    encoder = Encoder(network, image_shape=(arguments["channels"], side, side))
    assert network_lipschitz_bound(encoder).total == pytest.approx(1.0, abs=1e-5)


def test_layers_are_plain_and_sizes_differ() -> None:
    plain = (nn.Conv2d, nn.Linear, nn.Flatten, MaxMin)
    counts = []
    for name in ("lipschitz_convnet", "lipschitz_convnet_large"):
        network = ARCHITECTURES[name](image_size=32, channels=3)
        assert all(type(layer) in plain for layer in network.children())
        counts.append(sum(value.numel() for value in network.parameters()))
    assert counts[0] * 4 < 2e6 < counts[1] * 4


@pytest.mark.parametrize(
    "wrong",
    [{"width": 3}, {"hidden": 5}, {"image_size": 30}, {"size": "huge"}, {"overlapping": -1}],
)
def test_numbers_that_do_not_fit_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
        lipschitz_convnet(**wrong)


@pytest.mark.parametrize("arguments", SHAPES)
def test_the_training_layout_is_the_same_function(arguments: dict[str, Any]) -> None:
    network, images = shaken(**arguments), pictures(5, arguments)
    before, weights = network(images), {k: v.clone() for k, v in network.state_dict().items()}
    to_halves(network)
    assert any(isinstance(layer, SortedHalves) for layer in network)
    assert not any(isinstance(layer, MaxMin) for layer in network)
    torch.testing.assert_close(network(images), before, rtol=0, atol=1e-12)
    to_pairs(network)
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    assert torch.equal(network(images), before)


@pytest.mark.parametrize(
    "layers",
    [
        [MaxMin(), nn.Linear(4, 2)],
        [nn.Linear(4, 4), MaxMin()],
        [nn.Linear(4, 4), MaxMin(), nn.ReLU(), nn.Linear(4, 2)],
    ],
)
def test_a_chain_that_cannot_be_reordered_is_refused(layers: list[nn.Module]) -> None:
    with pytest.raises(UnsupportedError, match="between two"):
        to_halves(nn.Sequential(*layers))
