"""The text of --robust, and what training makes of it."""

import dataclasses

import numpy as np
import pytest
import torch

from robustcl.core.classifier import Encoder
from robustcl.core.errors import InputError, RobustclError
from robustcl.data import Dataset, load_data
from robustcl.models.encoders import small_convnet
from robustcl.models.heads.fitting import embed_images
from robustcl.training import DEMO_ARCHITECTURE, Files, TrainRecipe, train_encoder
from robustcl.training.position import Position, saved
from robustcl.training.robust import GradientPenalty, NoisyViews, parse_robust
from robustcl.training.start_run import begin_training

RECIPE = TrainRecipe(loss="simclr+suncet", labels=0.5, batch_size=32, epochs=2)
PENALTY = "penalty:weight=.2,norm=linf,direction=random,h=1/255,squared=false,normalized=false"


def digits() -> Dataset:
    return load_data("digits", split="train", limit=128)


def encoder() -> Encoder:
    torch.manual_seed(0)
    backbone = small_convnet(**{**DEMO_ARCHITECTURE, "width": 8})
    return Encoder(backbone, image_shape=(1, 8, 8), mean=(0.0,), std=(1.0,))


def weights(model: Encoder) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in model.state_dict().values()])


def test_reads_every_option() -> None:
    assert parse_robust("") is None and parse_robust("  ") is None
    assert parse_robust(PENALTY) == GradientPenalty(
        weight=0.2, norm="linf", direction="random", h=1 / 255, squared=False, normalized=False
    )
    assert parse_robust("noise:sigma=.5,consistency=2") == NoisyViews(sigma=0.5, consistency=2)
    assert parse_robust("noise") == NoisyViews()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("penalti", "unknown robust training 'penalti'; known: .*penalty"),
        ("penalty:wieght=1", "has no option 'wieght'; it takes .*weight"),
        ("penalty:weight=much", "expected a number"),
        ("penalty:squared=2", "squared is 2; expected true or false"),
        ("noise:sigma", "cannot read 'sigma'"),
        ("noise:sigma=0", "sigma 0 of noise"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainRecipe(robust=text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"projector": 16}, "hides the embedding from the penalty"),
        ({"autocast": True}, "autocast rounds embeddings"),
        ({"log_norm_penalty": 0.1}, "set one of the two to 0"),
    ],
)
def test_refuses_what_does_not_go_together(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainRecipe(robust="penalty", **change)


@pytest.mark.parametrize("robust", [PENALTY, "penalty", "noise:sigma=.2,consistency=1"])
def test_a_run_goes_on_bit_for_bit_and_logs_its_parts(robust: str, tmp_path) -> None:
    recipe = dataclasses.replace(RECIPE, robust=robust)
    whole, plain = encoder(), encoder()
    log = train_encoder(whole, digits(), recipe, progress=False)
    name = "consistency" if robust.startswith("noise") else "penalty"
    assert all(row[name] > 0 for row in log.rows)
    train_encoder(plain, digits(), RECIPE, progress=False)
    assert not torch.equal(weights(whole), weights(plain))
    state = tmp_path / "s.state"
    cut = encoder()

    def stop(_: Encoder, epoch: int) -> dict[str, float]:
        if epoch == 2:
            raise KeyboardInterrupt
        return {}

    files = Files(state=state, save_every=1)
    with pytest.raises(KeyboardInterrupt):
        train_encoder(cut, digits(), recipe, files=files, progress=False, observe=stop)
    resumed = encoder()
    files = Files(state=state, resume=True)
    train_encoder(resumed, digits(), recipe, files=files, progress=False)
    assert torch.equal(weights(whole), weights(resumed))


def test_another_method_does_not_go_on(tmp_path) -> None:
    state = tmp_path / "s.state"
    recipe = dataclasses.replace(RECIPE, robust="noise:sigma=.2")
    saved(begin_training(encoder(), digits(), recipe, torch.device("cpu")), Position(), state)
    with pytest.raises(RobustclError, match=r"run with robust 'noise:sigma=\.2'"):
        train_encoder(
            encoder(), digits(), RECIPE, files=Files(state=state, resume=True), progress=False
        )


def test_heads_see_the_noise() -> None:
    # The mean of many noisy embeddings of one image differs from its clean one, and is seeded.
    model, data = encoder(), digits()
    same = dataclasses.replace(data, images=np.repeat(data.images[:1], 128, axis=0))
    clean, *noisy = (
        embed_images(model, same, batch_size=64, noise=noise, seed=seed)
        for noise, seed in ((0.0, 0), (0.5, 0), (0.5, 0), (0.5, 1))
    )
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    assert float(clean.std(0).max()) == 0.0 and float(noisy[0].std(0).min()) > 0.0
    with pytest.raises(InputError, match="noise -1"):
        embed_images(model, data, batch_size=64, noise=-1.0)
