"""A normalization that costs accuracy is pointed out, and no other."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustcl.cli.main import robustcl
from robustcl.core.classifier import Encoder
from robustcl.data import Dataset, load_data
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint
from robustcl.models.description import Description
from robustcl.models.encoders import batch_norm_convnet, small_convnet
from robustcl.models.standardized_inputs import far_above, normalization_doubt

DIGITS = {"channels": 1, "image_size": 8}
SHARED = Path(os.environ.get("ROBUSTCL_TEST_DATA", "nowhere"))


def trained(dataset: Dataset, mean: float, std: float) -> nn.Module:
    """Train a small network by cross-entropy on inputs (x - mean) / std; return its features."""
    torch.manual_seed(0)
    network = batch_norm_convnet(**DIGITS, width=8, embedding_size=32)
    whole = nn.Sequential(network, nn.ReLU(), nn.Linear(32, 10)).train()
    images = torch.cat([batch.images for batch in dataset.batches(512)])
    images, labels = (images - mean) / std, torch.from_numpy(dataset.labels)
    optimizer = torch.optim.Adam(whole.parameters(), lr=3e-3)
    for _ in range(12):
        for rows in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(whole(images[rows]), labels[rows]).backward()
            optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", split="train")


def encoder(network: nn.Module, mean: float, std: float) -> Encoder:
    return Encoder(network, image_shape=(1, 8, 8), mean=(mean,), std=(std,)).eval()


def test_an_omitted_and_a_wrong_normalization_are_pointed_out(digits: Dataset) -> None:
    network = trained(digits, 0.305, 0.376)
    for sound in ((0.305, 0.376), (0.3, 0.4)):
        assert normalization_doubt(encoder(network, *sound), digits) is None
    for wrong in ((0.0, 1.0), (0.9, 0.1)):
        doubt = normalization_doubt(encoder(network, *wrong), digits)
        assert doubt is not None and "another normalization" in doubt and "\n" not in doubt
        assert "mean 0.30" in doubt and f"mean {wrong[0]:g} and std {wrong[1]:g}" in doubt


def test_a_network_of_plain_inputs_that_is_given_normalized_ones(digits: Dataset) -> None:
    network = trained(digits, 0.0, 1.0)
    assert normalization_doubt(encoder(network, 0.0, 1.0), digits) is None
    for wrong in ((0.305, 0.376), (0.5, 0.5)):
        doubt = normalization_doubt(encoder(network, *wrong), digits)
        assert doubt is not None and "mean 0 and std 1" in doubt


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("build", [small_convnet, batch_norm_convnet])
def test_untrained_networks_raise_no_doubt(build, seed: int, digits: Dataset) -> None:
    torch.manual_seed(seed)
    network = build(**DIGITS)
    for mean, std in ((0.0, 1.0), (0.305, 0.376)):
        assert normalization_doubt(encoder(network, mean, std), digits) is None


def test_the_encoder_is_left_as_it_was(digits: Dataset) -> None:
    network = trained(digits, 0.305, 0.376)
    own = encoder(network, 0.0, 1.0).train()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    assert normalization_doubt(own, digits) is not None
    assert own.training and network.training
    assert all(torch.equal(before[name], value) for name, value in own.state_dict().items())


def images_of(classes: int, each: int, *, constant: bool = False) -> Dataset:
    draws = np.random.default_rng(0)
    shape = (classes * each, 8, 8, 1)
    pixels = np.full(shape, 9) if constant else draws.integers(0, 256, size=shape)
    labels = np.repeat(np.arange(classes), each)
    return Dataset("drawn", pixels.astype(np.uint8), labels)


@pytest.mark.parametrize(("classes", "each"), [(1, 1), (2, 1), (2, 2), (300, 2), (600, 5)])
def test_few_images_and_many_classes_raise_no_doubt(classes: int, each: int) -> None:
    torch.manual_seed(0)
    own = encoder(small_convnet(**DIGITS), 0.0, 1.0)
    for constant in (False, True):
        dataset = images_of(classes, each, constant=constant)
        assert normalization_doubt(own, dataset) is None


def test_a_network_without_life_raises_no_doubt(digits: Dataset) -> None:
    network = small_convnet(**DIGITS)
    for weight in network.parameters():
        nn.init.zeros_(weight)
    assert normalization_doubt(encoder(network, 0.0, 1.0), digits) is None


def test_probe_warns_and_goes_on(digits: Dataset, tmp_path: Path, capsys) -> None:
    network = trained(digits, 0.305, 0.376)
    arguments = {**DIGITS, "width": 8, "embedding_size": 32}
    for mean, std, warned in ((0.0, 1.0, True), (0.305, 0.376, False)):
        place = tmp_path / f"{mean}.safetensors"
        plain = Description("batch_norm_convnet", arguments, (1, 8, 8), (mean,), (std,), 32)
        save_checkpoint(place, encoder(network, mean, std), plain)
        out = str(tmp_path / f"probed{mean}.safetensors")
        assert robustcl(["probe", str(place), "--data", "digits", "--out", out]) == 0
        assert ("warning: a prototype head" in capsys.readouterr().err) == warned


@pytest.mark.skipif(
    not (SHARED / "checkpoints").is_dir(),
    reason="set ROBUSTCL_TEST_DATA to a folder with checkpoints/ and cifar10-jpeg75/",
)
def test_a_cifar_network_of_others(tmp_path: Path, capsys) -> None:
    arch = "tests.resnet20:resnet20"
    weights = str(SHARED / "checkpoints" / "cifar10_resnet20.th")
    data = load_data(f"parquet:{SHARED / 'cifar10-jpeg75'}", split="train", limit=1000)
    for words, doubted in (([], True), (["--mean", "imagenet"], False)):
        out = tmp_path / f"{doubted}.safetensors"
        convert = ["convert", weights, "--arch", arch, "--input-size", "32", "--out", str(out)]
        assert robustcl([*convert, *words]) == 0
        assert ("NONE is assumed" in capsys.readouterr().err) == doubted
        doubt = normalization_doubt(load_checkpoint(out, arch=arch).encoder, data)
        assert (doubt is not None) == doubted


@pytest.mark.parametrize(
    ("images", "gained", "lost", "doubted"),
    [(500, 40, 0, False), (500, 50, 0, False), (500, 51, 0, True), (20, 4, 0, False),
     (20, 9, 0, False), (20, 10, 0, True), (500, 220, 150, True), (100, 61, 45, False)],
)  # fmt: skip
def test_a_doubt_needs_ten_points_and_significance(
    images: int, gained: int, lost: int, doubted: bool
) -> None:
    best, own = torch.zeros(2, images, dtype=torch.bool)
    best[:gained] = True
    own[gained : gained + lost] = True
    assert far_above(best, own) == doubted
