"""A run that was killed goes on bit for bit, and only as the run it was."""

import csv
import dataclasses
from pathlib import Path

import pytest
import torch

import robustcl.training.train_step as step_module
from robustcl.core.errors import RobustclError
from robustcl.training import Files, TrainRecipe, train_encoder
from robustcl.training.position import Position, resumed, saved
from robustcl.training.resume_state import load_state, save_state
from robustcl.training.start_run import begin_training
from tests.training.test_loop import PLAIN, digits, encoder, rough_encoder, weights


@pytest.mark.parametrize("cut", [1, 3, 4, 7])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars", "muon"])
def test_a_killed_run_goes_on_bit_for_bit(
    cut: int, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = TrainRecipe(
        loss="simclr+suncet+filter:class_prior=.1,confidence=.8,action=attract+cross_entropy",
        labels=0.2,
        epochs=2,
        batch_size=32,
        accumulate=2,
        projector=24,
        optimizer=optimizer,  # pyright: ignore[reportArgumentType]
        learning_rate=1e-2,
        ema=0.8 if optimizer == "lars" else 0.0,
    )
    data = digits(256)  # four steps per epoch
    whole = rough_encoder()
    one = train_encoder(whole, data, recipe, progress=False)
    files = Files(state=tmp_path / "s.state", save_every=1, log=tmp_path / "log.csv")
    killed = rough_encoder()
    kept, calls = step_module.weighted_sum, []

    def dying(*arguments, **options):
        calls.append(1)
        if len(calls) > 2 * cut:
            raise KeyboardInterrupt
        return kept(*arguments, **options)

    monkeypatch.setattr(step_module, "weighted_sum", dying)
    with pytest.raises(KeyboardInterrupt):
        train_encoder(killed, data, recipe, files=files, progress=False)
    monkeypatch.setattr(step_module, "weighted_sum", kept)
    torch.manual_seed(99)
    resumed = rough_encoder()
    with torch.no_grad():
        for value in resumed.parameters():
            value.add_(1.0)  # everything comes from the state
    files = dataclasses.replace(files, resume=True, measure_every=1)
    two = train_encoder(resumed, data, recipe, files=files, progress=False)
    assert torch.equal(weights(whole), weights(resumed))
    assert one.losses == two.losses and one.steps == two.steps
    finished = rough_encoder()
    train_encoder(finished, data, recipe, files=files, progress=False)  # nothing is left to do
    assert torch.equal(weights(whole), weights(finished))
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [float(row["loss"]) for row in rows] == list(one.losses)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"labels": 0.5},
        {"label_seed": 1},
        {"loss": "supcon:temperature=.2"},
        {"batch_size": 32},
        {"epochs": 3},
        {"views": None},
    ],
)
def test_another_recipe_does_not_go_on(change: dict, tmp_path: Path) -> None:
    # training.md, traps: the key includes augmentation, temperature, label share and split seed.
    recipe = dataclasses.replace(PLAIN, loss="supcon", views=dataclasses.replace(PLAIN.views))  # pyright: ignore[reportArgumentType]
    state = tmp_path / "s.state"
    saved(begin_training(encoder(), digits(256), recipe, torch.device("cpu")), Position(), state)
    name = next(iter(change))
    other = dataclasses.replace(recipe, **change)
    with pytest.raises(RobustclError, match=f"run with {name}"):
        train_encoder(
            encoder(), digits(256), other, files=Files(state=state, resume=True), progress=False
        )


def test_a_foreign_state_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "s.state"
    for content, message in ((None, "no state"), (b"PK\x03\x04 a pickle", "not the state")):
        if content:
            state.write_bytes(content)
        with pytest.raises(RobustclError, match=message):
            train_encoder(
                encoder(), digits(256), PLAIN, files=Files(state=state, resume=True), progress=False
            )


def test_a_state_that_does_not_fit_is_named(tmp_path: Path) -> None:
    # Signed anew, as by a program: what a wrong shape would be broadcast to is no state of the run.
    recipe, data = TrainRecipe(epochs=2, batch_size=32), digits(96)
    files = Files(state=tmp_path / "s.safetensors", save_every=1, measure_every=1)
    assert files.state is not None
    run = begin_training(encoder(), data, recipe, torch.device("cpu"))
    train_encoder(encoder(), data, recipe, files=files, progress=False)
    tensors, numbers = load_state(files.state)
    tensors["sum.loss"] = torch.tensor(1.5)
    found = [key for key in tensors if key.startswith(("optimizer.", "sum.", "model."))]
    assert len({key.partition(".")[0] for key in found}) == 3
    for key in (*found, "thresholds", "prototypes", "generator"):
        save_state(files.state, {**tensors, key: torch.cat([tensors[key].flatten()] * 2)}, numbers)
        with pytest.raises(RobustclError, match="does not fit the run"):
            resumed(run, files.state)
    save_state(files.state, tensors, numbers)
    assert resumed(run, files.state).epoch == numbers["epoch"]
    content = bytearray(files.state.read_bytes())
    content[-9] ^= 1
    files.state.write_bytes(content)
    with pytest.raises(RobustclError, match="was changed after it was written"):
        load_state(files.state)
