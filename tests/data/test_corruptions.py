"""Corruptions: what each does to an image whose answer is known."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from robustcl.core.errors import InputError
from robustcl.data import Dataset
from robustcl.data.corruptions import CORRUPTIONS, cifar10c, cifar10c_names, corrupted


def gray(value: int, *, side: int = 16, count: int = 4, channels: int = 3) -> Dataset:
    images = np.full((count, side, side, channels), value, dtype=np.uint8)
    return Dataset("gray/test", images, np.zeros(count, dtype=np.int64), ("none",))


def noisy(*, count: int = 6, channels: int = 3) -> Dataset:
    images = np.random.default_rng(0).integers(0, 256, (count, 12, 12, channels), dtype=np.uint8)
    return Dataset("noise/test", images, np.arange(count) % 2, ("a", "b"))


def pixels(dataset: Dataset) -> np.ndarray:
    return dataset.images[slice(None)]


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_does_not_depend_on_its_neighbors(name: str, channels: int) -> None:
    whole = noisy(channels=channels)
    found = corrupted(whole, name, 3, seed=5)
    part = corrupted(whole.select(slice(2)), name, 3, seed=5)
    assert found.images.dtype == np.uint8 and found.images.shape == whole.images.shape
    assert np.array_equal(found.images[:2], part.images)
    assert np.array_equal(found.labels, whole.labels)
    assert not np.array_equal(found.images, whole.images)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_higher_severity_is_farther(name: str) -> None:
    images = pixels(noisy()) // 2 + 40  # away from black and white
    middle = Dataset("middle/test", images, np.zeros(len(images), dtype=np.int64), ("none",))
    gaps = [
        np.abs(pixels(corrupted(middle, name, severity)) - images.astype(float)).mean()
        for severity in (1, 5)
    ]
    assert 0 < gaps[0] < gaps[1]


def test_noise_has_the_stated_scale() -> None:
    found = pixels(corrupted(gray(128, side=64, count=8), "gaussian_noise", 5)) / 255.0
    assert found.std() == pytest.approx(0.10, rel=0.02)
    photons = pixels(corrupted(gray(128, side=64, count=8), "shot_noise", 5)) / 255.0
    assert photons.std() == pytest.approx(np.sqrt(128 / 255 / 50), rel=0.02)
    hit = pixels(corrupted(gray(128, side=64, count=8), "impulse_noise", 5)) != 128
    assert hit.mean() == pytest.approx(0.07, rel=0.05)


def test_brightness_keeps_the_hue_and_contrast_the_mean() -> None:
    image = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    image[:] = (100, 50, 25)
    colored = Dataset("color/test", image, np.zeros(1, dtype=np.int64), ("none",))
    (red, green, blue) = corrupted(colored, "brightness", 2).images[0, 0, 0].astype(float)
    assert red == pytest.approx(100 + 25.5, abs=1)
    assert green / red == pytest.approx(0.5, abs=0.01)
    assert blue / red == pytest.approx(0.25, abs=0.01)
    images, found = pixels(noisy()), pixels(corrupted(noisy(), "contrast", 5))
    means = [part.mean(axis=(1, 2), keepdims=True) for part in (images, found)]
    assert np.abs(means[0] - means[1]).max() < 1
    assert (found - means[1]).std() == pytest.approx(0.15 * (images - means[0]).std(), rel=0.05)
    flat = corrupted(gray(90), "gaussian_blur", 5).images
    assert np.array_equal(flat, gray(90).images)  # a blur leaves a constant as it is


def test_mistakes_are_quoted() -> None:
    with pytest.raises(InputError, match=r"'fog'.*gaussian_noise"):
        corrupted(noisy(), "fog", 1)
    with pytest.raises(InputError, match="severity 6"):
        corrupted(noisy(), "contrast", 6)


def test_a_folder_of_cifar10c(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[cifar10c.__module__], "PER_SEVERITY", 6)
    clean = noisy()
    stored = np.concatenate([pixels(clean) // severity for severity in range(1, 6)])
    np.save(tmp_path / "fog.npy", stored)
    np.save(tmp_path / "labels.npy", np.tile(clean.labels, 5))
    assert cifar10c_names(tmp_path) == ("fog",)
    assert np.array_equal(cifar10c(tmp_path, "fog", 3, clean).images, pixels(clean) // 3)
    part = clean.select(slice(4))
    assert np.array_equal(cifar10c(tmp_path, "fog", 2, part).images, pixels(part) // 2)
    shuffled = clean.select(np.array([1, 0, 2, 3, 4, 5]))
    assert np.array_equal(cifar10c(tmp_path, "fog", 1, shuffled).images, pixels(shuffled))
    with pytest.raises(InputError, match="labels"):
        cifar10c(tmp_path, "fog", 1, replace(shuffled, rows=None))
    with pytest.raises(InputError, match="no 'snow'; it has fog"):
        cifar10c(tmp_path, "snow", 1, clean)
