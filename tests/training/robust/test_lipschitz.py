"""Training keeps the encoder 1-Lipschitz; what cannot be kept so is refused."""

import importlib.util
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from robustcl.certify.bounds.networks import network_lipschitz_bound
from robustcl.core.classifier import Encoder
from robustcl.core.errors import InputError, UnsupportedError
from robustcl.models.encoders import MaxMin, lipschitz_convnet
from robustcl.training import TrainRecipe, train_encoder
from robustcl.training.robust import Lipschitz, parse_robust
from robustcl.training.robust.lipschitz import (
    after_lipschitz_step,
    begin_lipschitz,
    deviation,
    end_lipschitz,
    make_orthogonal,
    orthogonalize,
    overlaps,
    patch_matrices,
)
from tests.training.test_loop import digits

SMALL: dict[str, Any] = {"channels": 1, "image_size": 8, "width": 8, "hidden": 16}
needs_library = pytest.mark.skipif(
    importlib.util.find_spec("orthogonium") is None, reason="needs robustcl[lipschitz]"
)


def small_encoder(**change: Any) -> Encoder:
    torch.manual_seed(0)
    return Encoder(lipschitz_convnet(**{**SMALL, **change}), image_shape=(1, 8, 8))


@pytest.mark.parametrize(
    ("loss", "optimizer"),
    [
        ("simclr", "adamw"),
        ("supcon", "sgd"),
        ("suncet", "adamw"),
        ("margin_suncet", "muon"),
        ("batch_prototypes:margin=.5", "muon"),
        ("semantic:margin=.5,normalize=false", "muon"),
    ],
)
@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_every_loss_leaves_a_constant_of_one(loss: str, optimizer: str, ema: float) -> None:
    encoder = small_encoder()
    before = [value.clone() for value in encoder.parameters()]
    recipe = TrainRecipe(
        loss=loss,
        robust="lipschitz",
        epochs=2,
        batch_size=64,
        optimizer=optimizer,  # pyright: ignore[reportArgumentType]
        learning_rate=0.02,
        ema=ema,
    )
    train_encoder(encoder, digits(256), recipe, progress=False)
    assert {type(layer) for layer in encoder.backbone.children()} == {
        nn.Conv2d,
        nn.Linear,
        nn.Flatten,
        MaxMin,
    }
    moved = [float((a - b).norm()) for a, b in zip(before, encoder.parameters(), strict=True)]
    assert max(moved) > 0.1
    assert 1.0 - 1e-4 < network_lipschitz_bound(encoder).total <= 1.0
    assert deviation(patch_matrices(encoder.backbone)) < 1e-5


def test_one_step_of_newton_and_schulz_squares_the_error() -> None:
    layers = patch_matrices(lipschitz_convnet(**SMALL).double())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in layers:
            noise = torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64)
            layer.weight.add_(0.02 / layer.weight.shape[0] ** 0.5 * noise)
    errors = [deviation(layers)]
    for _ in range(3):
        orthogonalize(layers)
        errors.append(deviation(layers))
    assert 1e-3 < errors[0] < 0.3
    for one, two in pairwise(errors):
        assert two <= 2.0 * one**2 + 1e-14


def test_the_nearest_orthogonal_matrix_is_found() -> None:
    layer = nn.Linear(6, 3).double()
    start = layer.weight.detach().clone()
    make_orthogonal([layer])
    values = torch.linalg.svdvals(layer.weight.detach())
    torch.testing.assert_close(values, torch.full_like(values, 1.0 - 1e-6))
    best = (layer.weight.detach() - start).norm()
    for seed in range(20):
        torch.manual_seed(seed)
        other = torch.linalg.qr(start.T + 0.3 * torch.randn(6, 3, dtype=torch.float64))[0].T
        sign = torch.sign((other * start).sum(dim=1, keepdim=True))
        assert (other * sign - start).norm() >= best - 1e-5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kernel_size": 2, "stride": 2}, False),
        ({"kernel_size": 2, "stride": 3}, False),
        ({"kernel_size": 1}, False),
        ({"kernel_size": 3}, True),
        ({"kernel_size": 2, "stride": (2, 1)}, True),
        ({"kernel_size": 2, "stride": 2, "dilation": 2}, True),
        ({"kernel_size": 2, "stride": 2, "padding": 1, "padding_mode": "reflect"}, True),
    ],
)
def test_overlap_is_seen(options: dict[str, Any], expected: bool) -> None:
    assert overlaps(nn.Conv2d(2, 4, **options)) == expected


@needs_library
@pytest.mark.parametrize("layers", ["orthogonal", "aol"])
def test_library_layers_end_as_plain_ones(layers: str) -> None:
    encoder = small_encoder(overlapping=1)
    backbone, method = encoder.backbone, Lipschitz(layers=layers)  # pyright: ignore[reportArgumentType]
    assert isinstance(backbone, nn.Sequential)
    begin_lipschitz(backbone, method)
    assert type(backbone[2]) is not nn.Conv2d
    images = torch.rand(16, 1, 8, 8)
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.05)
    for _ in range(4):
        optimizer.zero_grad()
        backbone(images).square().mean().neg().backward()
        optimizer.step()
        after_lipschitz_step(backbone)
    for _ in range(3):
        orthogonalize(patch_matrices(backbone))  # so that the projection at the end changes little
    expected = backbone.eval()(images)
    end_lipschitz(backbone)
    assert {type(layer) for layer in backbone} == {nn.Conv2d, nn.Linear, nn.Flatten, MaxMin}
    torch.testing.assert_close(backbone(images), expected, rtol=0, atol=1e-4)
    total = network_lipschitz_bound(encoder).total
    assert total <= 1.0 + 1e-6
    assert total > (0.99 if layers == "orthogonal" else 0.3)
    small_encoder(overlapping=1).backbone.load_state_dict(backbone.state_dict())


@needs_library
def test_library_layers_are_trained_by_the_recipe() -> None:
    encoder = small_encoder(overlapping=1)
    recipe = TrainRecipe(
        loss="batch_prototypes",
        robust="lipschitz:layers=aol",
        epochs=1,
        batch_size=64,
        learning_rate=3e-3,
    )
    train_encoder(encoder, digits(128), recipe, progress=False)
    assert network_lipschitz_bound(encoder).total <= 1.0 + 1e-6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lipschitz:layers=sll", "product of layer norms"),
        ("lipschitz:layers=bcop", "unknown"),
        ("lipschitz:margin=1", "margin"),
    ],
)
def test_options_that_do_not_fit_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_robust(text)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4)), "BatchNorm1d"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten()), "overlap"),
        (nn.Linear(64, 4), "chain"),
    ],
)
def test_networks_that_cannot_be_kept_are_refused(network: nn.Module, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        begin_lipschitz(network, Lipschitz())
