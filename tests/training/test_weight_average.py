"""The moving average of weights is what is kept and measured; training does not notice it."""

import dataclasses
import importlib

import pytest
import torch
from torch import Tensor, nn

from robustcl.core.classifier import Encoder
from robustcl.core.errors import InputError
from robustcl.data import load_data
from robustcl.training import TrainRecipe, train_encoder
from robustcl.training.weight_average import step_average

DECAY = 0.7
train_module = importlib.import_module("robustcl.training.loop")
RECIPE = TrainRecipe(
    labels=0.0, epochs=2, batch_size=32, projector=16, learning_rate=1e-2, ema=DECAY
)


def encoder() -> Encoder:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()]
    return Encoder(nn.Sequential(*layers, nn.Linear(288, 16)), image_shape=(1, 8, 8))


@pytest.mark.parametrize("hidden", [0, 16])
def test_the_kept_weights_are_the_weighted_mean(
    hidden: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    visited: list[dict[str, Tensor]] = []
    recipe = dataclasses.replace(RECIPE, projector=hidden)
    own = encoder()

    def remember(average: nn.Module, model: nn.Module, **options) -> None:
        visited.append({name: value.clone() for name, value in own.state_dict().items()})
        step_average(average, model, **options)

    monkeypatch.setattr(train_module, "step_average", remember)
    seen: list[dict[str, Tensor]] = []

    def observe(model: Encoder, epoch: int) -> dict[str, float]:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {}

    data = load_data("digits", split="train", limit=128)
    with_average = train_encoder(own, data, recipe, observe=observe, progress=False)
    assert len(visited) == 8
    for name, value in own.state_dict().items():
        if not value.is_floating_point():
            assert value == visited[-1][name]
            continue
        shares = [DECAY ** (8 - step) for step in range(1, 9)]
        parts = [share * other[name] for share, other in zip(shares, visited, strict=True)]
        total = torch.stack(parts).sum(0)
        assert torch.allclose(value, total / sum(shares), atol=1e-6), name
        assert torch.equal(value, seen[-1][name])
    plain = encoder()
    without = train_encoder(plain, data, dataclasses.replace(recipe, ema=0.0), progress=False)
    assert with_average.losses == without.losses
    last = visited[-1]
    assert all(torch.equal(value, last[name]) for name, value in plain.state_dict().items())
    assert with_average.spread != without.spread


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_refuses_a_decay(decay: float) -> None:
    with pytest.raises(InputError, match=f"ema {decay}"):
        dataclasses.replace(RECIPE, ema=decay)
