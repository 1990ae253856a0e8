"""Adversarial training on digits: any loss, any interruption, plain layers at the end."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import robustcl.training.train_step as step_module
from robustcl.attacks import inner_ascent
from robustcl.core.classifier import Encoder
from robustcl.core.errors import InputError, RobustclError
from robustcl.data import Dataset, load_data
from robustcl.models.dual_batch_norm import DualBatchNorm
from robustcl.models.heads.fitting import encoder_hash
from robustcl.training import Files, TrainLog, TrainRecipe, train_encoder
from robustcl.training.losses.sums import LOSSES

METHODS = [
    "acl:eps=.1,steps=2",
    "acl:eps=.1,attack=free",
    "dynacl:eps=.1,attack=fast,norm=linf",
    "rocl:eps=.5,steps=2,norm=l2",
    "deacl:eps=.1,steps=2",
]
SHORT = TrainRecipe(epochs=2, batch_size=32, learning_rate=2e-3, labels=0.3)


def encoder(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1)]
    return Encoder(nn.Sequential(*layers, nn.Linear(288, 16)), image_shape=(1, 8, 8))


def digits(count: int = 128) -> Dataset:
    return load_data("digits", split="train", limit=count)


def weights(model: Encoder) -> torch.Tensor:
    return torch.cat([value.detach().double().flatten() for value in model.state_dict().values()])


def trained(recipe: TrainRecipe, *, files: Files | None = None, model: Encoder | None = None):
    model = model or encoder()
    log: TrainLog = train_encoder(
        model, digits(), recipe, files=files, progress=False, attack=inner_ascent,
        teacher=encoder(5) if recipe.robust.startswith("deacl") else None,
    )  # fmt: skip
    return model, log


@pytest.mark.parametrize("robust", METHODS)
def test_the_model_comes_back_plain_and_the_parts_are_logged(robust: str) -> None:
    names = list(encoder().state_dict())
    model, log = trained(dataclasses.replace(SHORT, robust=robust))
    assert list(model.state_dict()) == names and not model.training
    assert not any(isinstance(part, DualBatchNorm) for part in model.modules())
    assert all(weight.requires_grad for weight in model.parameters())
    assert all("adversarial" in row and row["adversarial"] > 0.0 for row in log.rows)
    assert log.spread > 0.1
    plain, _ = trained(SHORT)
    assert not torch.equal(weights(model), weights(plain))


@pytest.mark.parametrize("loss", [*sorted(LOSSES), "simclr+suncet"])
def test_every_loss_has_adversarial_views(loss: str) -> None:
    for method in ("acl:eps=4/255,steps=1", "rocl:eps=4/255,attack=fast"):
        options = ":class_prior=.1" if loss == "false_negative_filter" else ""
        _, log = trained(dataclasses.replace(SHORT, loss=loss + options, robust=method, epochs=1))
        row = log.rows[0]
        name = {"simclr+suncet": "nt_xent"}.get(loss, loss)
        assert 0.0 < row["adversarial"] < 3.0 * row["loss"] and name in row


@pytest.mark.parametrize("robust", METHODS)
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_killed_run_goes_on_bit_for_bit(
    robust: str, cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(SHORT, robust=robust, projector=0, ema=0.9)
    whole, one = trained(recipe)
    files, kept, calls = Files(state=tmp_path / "s.state", save_every=1), step_module._loss, []

    def dying(*arguments):
        calls.append(1)
        if len(calls) > cut:
            raise KeyboardInterrupt
        return kept(*arguments)

    monkeypatch.setattr(step_module, "_loss", dying)
    broken = encoder()
    with pytest.raises(KeyboardInterrupt):
        trained(recipe, files=files, model=broken)
    assert not any(isinstance(part, DualBatchNorm) for part in broken.modules())
    monkeypatch.setattr(step_module, "_loss", kept)
    model, two = trained(recipe, files=dataclasses.replace(files, resume=True), model=encoder(9))
    assert torch.equal(weights(whole), weights(model)) and one.losses == two.losses


def test_another_method_or_teacher_does_not_go_on(tmp_path: Path) -> None:
    recipe = dataclasses.replace(SHORT, robust=METHODS[-1], epochs=1)
    files = Files(state=tmp_path / "s.state")
    trained(recipe, files=files)
    files = dataclasses.replace(files, resume=True)
    other = dataclasses.replace(recipe, robust="deacl:eps=.2,steps=2")
    with pytest.raises(Exception, match="run with robust"):
        trained(other, files=files)
    with pytest.raises(Exception, match="run with teacher_hash"):
        train_encoder(encoder(), digits(), recipe, files=files, progress=False,
                      attack=inner_ascent, teacher=encoder(6))  # fmt: skip


def test_the_teacher_stays_as_it_is() -> None:
    teacher = encoder(5).train()
    before = encoder_hash(teacher)
    recipe = dataclasses.replace(SHORT, robust=METHODS[-1])
    model = encoder()
    log = train_encoder(
        model, digits(), recipe, progress=False, attack=inner_ascent, teacher=teacher
    )
    assert encoder_hash(teacher) == before and teacher.training
    assert all(weight.grad is None and weight.requires_grad for weight in teacher.parameters())
    assert log.rows[-1]["distance"] < log.rows[0]["distance"]  # the student comes nearer


def test_adversarial_training_moves_the_embedding_less_under_attack() -> None:
    # What it is for: after equal steps the attacked embedding turns by less.
    batch = load_data("digits", split="test").batch(range(100)).images
    turns = []
    for robust in ("", "acl:eps=.15,steps=3"):
        recipe = dataclasses.replace(SHORT, epochs=10, robust=robust)
        model, _ = trained(recipe)
        turns.append(_turn(model, batch, 0.15))
    assert turns[1] < 0.8 * turns[0]


def _turn(model: Encoder, images: torch.Tensor, eps: float) -> float:
    from robustcl.core.modules import eval_mode
    from robustcl.core.threat import Threat
    from robustcl.training.robust.attacked import turned

    with eval_mode(model):
        reference = model(images)
        points = inner_ascent(
            lambda at: turned(model(at), reference), images, Threat("linf", eps), steps=10,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        return float(turned(model(points), reference).mean())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"robust": "trades"}, "unknown robust training 'trades'"),
        ({"robust": "acl:epsilon=.1"}, "acl has no option 'epsilon'"),
        ({"robust": "acl:eps=0"}, "eps 0"),
        ({"robust": "acl:steps=two"}, "expected a number"),
        ({"robust": "acl:steps=1.5"}, "whole number"),
        ({"robust": "dynacl:period=3"}, r"period 3 of dynacl is longer than training \(2 epochs\)"),
        ({"robust": "acl:goal=semantic"}, "name it in the loss too"),
        ({"robust": "acl:goal=supcon", "labels": 0.0}, "needs labels"),
        ({"robust": "deacl", "projector": 8}, "projector 8 of deacl"),
        ({"robust": "acl", "log_norm_penalty": 0.1}, "set one of the two to 0"),
    ],
)
def test_recipe_refuses(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SHORT, **change)


def test_a_collapse_under_attack_is_reported_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["robustcl.training.loop"]
    monkeypatch.setattr(module, "COLLAPSED_SPREAD", 2.0)  # out of reach
    with pytest.raises(RobustclError, match=r"collapsed.*weaken robust \(now 'acl:steps=1'\)"):
        trained(dataclasses.replace(SHORT, robust="acl:steps=1"))


def test_missing_attack_or_teacher() -> None:
    recipe = dataclasses.replace(SHORT, robust="acl")
    with pytest.raises(InputError, match="needs an attack"):
        train_encoder(encoder(), digits(), recipe, progress=False)
    recipe = dataclasses.replace(SHORT, robust="deacl")
    with pytest.raises(InputError, match="needs a teacher"):
        train_encoder(encoder(), digits(), recipe, progress=False, attack=inner_ascent)
    other = Encoder(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), image_shape=(1, 8, 8))
    with pytest.raises(InputError, match="has 5 numbers, the student's 16"):
        train_encoder(encoder(), digits(), dataclasses.replace(SHORT, robust="deacl"),
                      progress=False, attack=inner_ascent, teacher=other)  # fmt: skip
