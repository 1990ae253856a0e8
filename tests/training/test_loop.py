"""Contrastive training on digits, short."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import robustcl.training.start_run as start_module
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError, RobustclError
from robustcl.data import Dataset, label_subset, load_data
from robustcl.models.encoders import small_convnet
from robustcl.training import (
    DEMO_ARCHITECTURE,
    DEMO_RECIPE,
    Files,
    TrainLog,
    TrainRecipe,
    mixed_loss,
    rate,
    train_encoder,
)
from robustcl.training.start_run import begin_training
from robustcl.training.train_step import train_step

SHORT = dataclasses.replace(DEMO_RECIPE, epochs=6, batch_size=128)
PLAIN = dataclasses.replace(SHORT, log_norm_penalty=0.0, batch_size=64, epochs=2)
LOSSES = [
    "simclr",
    "supcon",
    "simclr+suncet:until=1",
    "debiased:class_prior=.1",
    "hard_negative",
    "filter:class_prior=.1",
    "filter:top_k=5,action=attract,confidence=.8",
    "simclr+semantic",
    "cross_entropy",
]


def encoder(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    backbone = small_convnet(**{**DEMO_ARCHITECTURE, "width": 16})
    return Encoder(backbone, image_shape=(1, 8, 8), mean=(0.0,), std=(1.0,))


def rough_encoder() -> Encoder:
    # BatchNorm and dropout, whose states a resumed run must find again.
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2)]
    return Encoder(nn.Sequential(*layers, nn.Linear(288, 16)), image_shape=(1, 8, 8))


def digits(count: int = 512) -> Dataset:
    return load_data("digits", split="train", limit=count)


def weights(model: Encoder) -> torch.Tensor:
    return torch.cat([value.detach().double().flatten() for value in model.state_dict().values()])


def trained(recipe: TrainRecipe, data: Dataset, seed: int = 0) -> tuple[torch.Tensor, TrainLog]:
    model = encoder(seed)
    log = train_encoder(model, data, recipe, progress=False)
    return weights(model), log


def test_loss_falls_and_the_log_is_complete() -> None:
    model = encoder()
    log = train_encoder(model, digits(), SHORT, progress=False)
    assert len(log.losses) == 6 and log.steps == 24
    assert log.losses[-1] < log.losses[0] and log.penalties[-1] < log.penalties[0]
    assert log.spread > 0.3 and log.images_per_second > 0
    assert not model.training


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_with_few_labels(loss: str) -> None:
    recipe = dataclasses.replace(PLAIN, loss=loss, labels=0.1, epochs=4)
    data = digits(256)
    _, log = trained(recipe, data)
    assert log.losses[2] > log.losses[3] or log.losses[1] > log.losses[2]
    assert all(np.isfinite(log.losses)) and log.spread > 0.1


def test_same_seed_same_weights() -> None:
    found = [trained(dataclasses.replace(PLAIN, seed=seed), digits(256))[0] for seed in (0, 0, 1)]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@pytest.mark.parametrize("loss", ["simclr", "simclr+suncet", "supcon", "cross_entropy"])
def test_unknown_labels_change_nothing(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only what label_subset chose may reach the losses; the rest is measured with, never learned.
    data = digits(256)
    recipe = dataclasses.replace(PLAIN, loss=loss, labels=0.2)
    known = label_subset(data.labels, 0.2, num_classes=10)
    monkeypatch.setattr(start_module, "label_subset", lambda *_, **__: known)
    hidden = np.setdiff1d(np.arange(256), known)
    results = []
    for rows in ([], hidden, known):
        labels = data.labels.copy()
        labels[rows] = np.roll(labels[rows], 1)
        results.append(trained(recipe, dataclasses.replace(data, labels=labels))[0])
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2]) == (loss == "simclr")


def test_measuring_does_not_change_training(tmp_path: Path) -> None:
    recipe, model = dataclasses.replace(PLAIN, loss="simclr"), rough_encoder()
    train_encoder(model, digits(256), recipe, progress=False)
    measured = rough_encoder()
    files = Files(log=tmp_path / "log.csv", measure_every=1)
    log = train_encoder(measured, digits(256), recipe, files=files, progress=False)
    assert torch.equal(weights(model), weights(measured))
    assert 0.2 < log.rows[-1]["knn_accuracy"] <= 1.0
    assert 0.0 < log.rows[-1]["contradiction_share"] < 1.0


def test_the_filter_is_measured_against_true_labels() -> None:
    recipe = dataclasses.replace(PLAIN, loss="filter:class_prior=.1", epochs=3)
    log = train_encoder(
        encoder(), digits(512), recipe, files=Files(measure_every=1), progress=False
    )
    row = log.rows[-1]
    # A tenth of the negatives is of the anchor's class, so chance has precision .1.
    assert row["filter_precision"] > 0.3 and row["filter_recall"] > 0.2


def test_a_projector_stands_before_the_loss_only() -> None:
    recipe = dataclasses.replace(PLAIN, loss="simclr", projector=32)
    run = begin_training(rough_encoder(), digits(256), recipe, torch.device("cpu"))
    assert run.model(run.images[:4].float()).shape == (4, 128)
    before = weights(run.encoder)
    train_step(run, torch.arange(64), epoch=0, rate=0.1)
    assert not torch.equal(before, weights(run.encoder))
    plain, _ = trained(dataclasses.replace(recipe, projector=0), digits(256))
    projected, log = trained(recipe, digits(256))
    assert plain.shape == projected.shape and not torch.equal(plain, projected)
    assert log.spread > 0.1
    with pytest.raises(InputError, match="projector hides"):
        dataclasses.replace(recipe, log_norm_penalty=0.1)


def test_the_class_layer_of_cross_entropy_is_learned_and_returned_as_a_head() -> None:
    recipe = dataclasses.replace(PLAIN, loss="cross_entropy", epochs=12, learning_rate=3e-3)
    data, model = digits(512), encoder()
    head = train_encoder(model, data, recipe, progress=False).head
    assert head is not None
    batch = data.batch(range(512))
    scores = Classifier(model, head, normalizes=False)(batch.images)
    assert float((scores.argmax(1) == batch.labels).double().mean()) > 0.8
    for change in ({"loss": "supcon"}, {"projector": 16}, {"ema": 0.9}):
        other = dataclasses.replace(PLAIN, loss="cross_entropy", epochs=1)
        assert trained(dataclasses.replace(other, **change), digits(128))[1].head is None


def test_half_precision_trains() -> None:
    _, log = trained(dataclasses.replace(PLAIN, autocast=True), digits(256))
    _, plain = trained(PLAIN, digits(256))
    assert log.losses != plain.losses
    assert log.losses[-1] == pytest.approx(plain.losses[-1], rel=0.02)


def test_accumulation_averages_gradients() -> None:
    # One step of two batches with SGD equals the mean of the steps of each batch alone.
    data = digits(64)
    recipe = TrainRecipe(epochs=1, batch_size=32, accumulate=2, optimizer="sgd", momentum=0.0,
                         weight_decay=0.0, learning_rate=0.1, warmup=0.0)  # fmt: skip
    _, log = trained(recipe, data)
    assert log.steps == 1 and len(log.losses) == 1
    half, single = dataclasses.replace(recipe, accumulate=1), encoder()
    start = weights(single)
    both, _ = trained(recipe, data)
    moved = []
    run = begin_training(encoder(), data, half, torch.device("cpu"))
    order = torch.randperm(64, generator=run.generator)
    before = run.encoder.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    for rows in order.split(32):
        run.encoder.load_state_dict(before)
        train_step(run, rows, epoch=0, rate=0.1)
        moved.append(weights(run.encoder) - start)
    assert torch.allclose(both - start, (moved[0] + moved[1]) / 2, atol=1e-6)


def test_collapse_is_refused() -> None:
    recipe = dataclasses.replace(SHORT, epochs=20, log_norm_penalty=50.0, learning_rate=1e-2)
    with pytest.raises(RobustclError, match="collapsed"):
        train_encoder(encoder(), digits(256), recipe, progress=False)


def test_divergence_is_refused() -> None:
    model = encoder()
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(RobustclError, match="loss became nan"):
        train_encoder(model, digits(256), PLAIN, progress=False)


def test_max_seconds_ends_the_run() -> None:
    recipe = dataclasses.replace(SHORT, epochs=100_000, max_seconds=1.0)
    log = train_encoder(encoder(), digits(256), recipe, progress=False)
    assert log.seconds < 5.0 and log.steps < 100_000


def test_rate_rises_then_falls_to_zero() -> None:
    rates = [rate(step / 100, 0.1) for step in range(101)]
    assert rates[10] == pytest.approx(1.0) and rates[100] == pytest.approx(0.0)
    assert all(np.diff(rates[:11]) > 0) and all(np.diff(rates[10:]) < 0)


def test_refuses_data_that_does_not_fit() -> None:
    with pytest.raises(InputError, match="fewer than batch_size"):
        train_encoder(encoder(), digits(64), SHORT, progress=False)
    unlabeled = dataclasses.replace(digits(256), labeled=False)
    with pytest.raises(InputError, match="no labels"):
        train_encoder(encoder(), unlabeled, SHORT, progress=False)
    one = dataclasses.replace(digits(256), labels=np.zeros(256, dtype=np.int64))
    with pytest.raises(InputError, match="one class only"):
        train_encoder(encoder(), one, SHORT, progress=False)
    few = dataclasses.replace(SHORT, labels=0.01)
    with pytest.raises(InputError, match="less than one label for each of 10 classes"):
        train_encoder(encoder(), digits(256), few, progress=False)


def test_one_class_trains_without_labels() -> None:
    one = dataclasses.replace(digits(256), labels=np.zeros(256, dtype=np.int64))
    recipe = dataclasses.replace(PLAIN, loss="simclr")
    log = train_encoder(encoder(), one, recipe, files=Files(measure_every=1), progress=False)
    assert log.spread > 0.1 and "knn_accuracy" not in log.rows[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"seed": -1}, "seed"),
        ({"labels": 1.5}, "labels"),
        ({"labels": 0.0, "loss": "supcon"}, "needs labels"),
        ({"loss": "simclr:until=2"}, "counts in epoch 3"),
        ({"loss": "simclr:until=2+supcon:after=3"}, "counts in epoch 3"),
        ({"loss": "cosface"}, "unknown loss"),
        ({"optimizer": "lamb"}, "optimizer"),
    ],
)
def test_recipe_refuses(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainRecipe(**change)


def test_mixed_loss() -> None:
    assert mixed_loss(0.0) == "simclr:temperature=0.5,weight=1.0"
    assert mixed_loss(1.0, label_temperature=0.2) == "supcon:temperature=0.2,weight=1.0"
    terms = TrainRecipe(loss=mixed_loss(0.8)).terms
    assert [(term.name, term.temperature) for term in terms] == [("nt_xent", 0.5), ("sup_con", 0.1)]
    assert [term.weight for term in terms] == pytest.approx([0.2, 0.8])
    with pytest.raises(InputError, match="label_weight"):
        mixed_loss(2.0)
