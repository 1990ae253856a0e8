"""SimCLR training on digits, short."""

import dataclasses

import numpy as np
import pytest
import torch

from robustcl.classifier import Encoder
from robustcl.data import Dataset, load_data
from robustcl.encoders import small_convnet
from robustcl.errors import InputError, RobustclError
from robustcl.training import DEMO_ARCHITECTURE, DEMO_RECIPE, SimCLRRecipe, train_simclr
from robustcl.training.simclr import rate

SHORT = dataclasses.replace(DEMO_RECIPE, epochs=6, batch_size=128)


def encoder(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    backbone = small_convnet(**{**DEMO_ARCHITECTURE, "width": 16})
    return Encoder(backbone, image_shape=(1, 8, 8), mean=(0.0,), std=(1.0,))


def digits(count: int = 512) -> Dataset:
    return load_data("digits", split="train", limit=count)


def test_loss_falls_and_the_log_is_complete() -> None:
    trained = encoder()
    log = train_simclr(trained, digits(), SHORT, progress=False)
    assert len(log.losses) == 6 and log.steps == 24
    assert log.losses[-1] < log.losses[0] and log.penalties[-1] < log.penalties[0]
    assert log.spread > 0.3 and log.images_per_second > 0
    assert not trained.training


def test_same_seed_same_weights() -> None:
    weights = []
    for seed in (0, 0, 1):
        trained = encoder()
        recipe = dataclasses.replace(SHORT, epochs=1, seed=seed)
        train_simclr(trained, digits(256), recipe, progress=False)
        weights.append(torch.cat([p.detach().flatten() for p in trained.parameters()]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_labels_are_unused_without_label_weight() -> None:
    data, weights = digits(256), []
    recipe = dataclasses.replace(SHORT, epochs=1, label_weight=0.0)
    for labels in (data.labels, data.labels[::-1].copy()):
        trained = encoder()
        train_simclr(trained, dataclasses.replace(data, labels=labels), recipe, progress=False)
        weights.append(torch.cat([p.detach().flatten() for p in trained.parameters()]))
    assert torch.equal(*weights)


def test_collapse_is_refused() -> None:
    recipe = dataclasses.replace(SHORT, epochs=20, log_norm_penalty=50.0, learning_rate=1e-2)
    with pytest.raises(RobustclError, match="collapsed"):
        train_simclr(encoder(), digits(256), recipe, progress=False)


def test_divergence_is_refused() -> None:
    trained = encoder()
    with torch.no_grad():
        next(trained.parameters()).fill_(torch.nan)
    recipe = dataclasses.replace(SHORT, epochs=1, log_norm_penalty=0.0)
    with pytest.raises(RobustclError, match="loss became nan"):
        train_simclr(trained, digits(256), recipe, progress=False)


def test_max_seconds_ends_the_run() -> None:
    recipe = dataclasses.replace(SHORT, epochs=100_000, max_seconds=1.0)
    log = train_simclr(encoder(), digits(256), recipe, progress=False)
    assert log.seconds < 5.0 and log.steps < 100_000


def test_rate_rises_then_falls_to_zero() -> None:
    rates = [rate(step / 100, 0.1) for step in range(101)]
    assert rates[10] == pytest.approx(1.0) and rates[100] == pytest.approx(0.0)
    assert all(np.diff(rates[:11]) > 0) and all(np.diff(rates[10:]) < 0)


def test_refuses_data_that_does_not_fit() -> None:
    with pytest.raises(InputError, match="fewer than batch_size"):
        train_simclr(encoder(), digits(64), SHORT, progress=False)
    unlabeled = dataclasses.replace(digits(256), labeled=False)
    with pytest.raises(InputError, match="no labels"):
        train_simclr(encoder(), unlabeled, SHORT, progress=False)


@pytest.mark.parametrize(
    "change",
    [{"epochs": 0}, {"batch_size": 1}, {"label_weight": 2.0}, {"learning_rate": 0.0}, {"seed": -1}],
)
def test_recipe_refuses(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        SimCLRRecipe(**change)  # pyright: ignore[reportArgumentType]
