"""Data sets with corrupted images."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from robustcl.core.errors import InputError
from robustcl.core.specification import choose
from robustcl.data.dataset import Dataset
from robustcl.data.images import opened_image
from robustcl.data.stored_array import map_npy, read_npy

Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def corrupted(dataset: Dataset, name: str, severity: int, *, seed: int = 0) -> Dataset:
    """Corrupt every image of a data set.

    Args:
        dataset: The images.
        name: A key of `CORRUPTIONS`.
        severity: 1 (weak) to 5.
        seed: Seed of the noise; image n draws from (seed, n), whatever the severity.

    Returns:
        The same labels with uint8 images.

    Raises:
        InputError: When the name is unknown or the severity is not from 1 to 5.

    Reference:
        Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
        Perturbations, ICLR 2019; constants of its CIFAR-10 version.
    """
    corrupt = CORRUPTIONS[choose(name, CORRUPTIONS, what="corruption")]
    if severity not in (1, 2, 3, 4, 5):
        raise InputError(f"severity {severity!r} is not from 1 to 5")
    stored = dataset.images[slice(None)]  # streamed ones are decoded
    images = stored / np.float64(255.0 if stored.dtype == np.uint8 else 1.0)
    found = np.stack([
        corrupt(image, severity, np.random.default_rng([seed, row]))
        for row, image in enumerate(images)
    ])
    pixels = np.rint(255.0 * np.clip(found, 0.0, 1.0)).astype(np.uint8)
    return replace(dataset, name=f"{dataset.name}/{name}-{severity}", images=pixels)


def _gaussian_noise(image: np.ndarray, severity: int, draws: np.random.Generator) -> np.ndarray:
    scale = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return image + scale * draws.standard_normal(image.shape)


def _shot_noise(image: np.ndarray, severity: int, draws: np.random.Generator) -> np.ndarray:
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return draws.poisson(image * photons) / photons


def _impulse_noise(image: np.ndarray, severity: int, draws: np.random.Generator) -> np.ndarray:
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    hit, salt = draws.random(image.shape) < share, draws.random(image.shape) < 0.5
    return np.where(hit, salt, image)


def _gaussian_blur(image: np.ndarray, severity: int, draws: np.random.Generator) -> np.ndarray:
    del draws
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]
    return gaussian_filter(image, (sigma, sigma, 0.0), mode="nearest")


def _brightness(image: np.ndarray, severity: int, draws: np.random.Generator) -> np.ndarray:
    # Raises the V of HSV: hue and saturation stay, so all channels grow by one factor.
    del draws
    more = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    value = image.max(axis=2, keepdims=True)
    factor = np.minimum(value + more, 1.0) / np.where(value > 0, value, 1.0)
    return np.where(value > 0, image * factor, more)


def _contrast(image: np.ndarray, severity: int, draws: np.random.Generator) -> np.ndarray:
    del draws
    kept = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    means = image.mean(axis=(0, 1), keepdims=True)
    return means + kept * (image - means)


def _pixelate(image: np.ndarray, severity: int, draws: np.random.Generator) -> np.ndarray:
    del draws
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    height, width = image.shape[:2]
    small = (max(int(width * share), 1), max(int(height * share), 1))
    picture = _picture(image).resize(small, Image.Resampling.BOX)
    return _pixels(picture.resize((width, height), Image.Resampling.BOX), image.shape)


def _jpeg_compression(image: np.ndarray, severity: int, draws: np.random.Generator) -> np.ndarray:
    del draws
    stream = io.BytesIO()
    _picture(image).save(stream, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
    with opened_image(stream.getvalue(), "the compressed image") as picture:
        return _pixels(picture, image.shape)


def _picture(image: np.ndarray) -> Image.Image:
    pixels = np.rint(255.0 * image).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if image.shape[2] == 1 else pixels)


def _pixels(picture: Image.Image, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(picture, dtype=np.float64).reshape(shape) / 255.0


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "gaussian_blur": _gaussian_blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}


PER_SEVERITY = 10_000


def cifar10c_names(folder: Path) -> tuple[str, ...]:
    """List the corruptions in a folder.

    Args:
        folder: With NAME.npy and labels.npy.

    Returns:
        Their names, sorted.

    Raises:
        InputError: When there is none, or no labels.npy.
    """
    names = tuple(sorted(place.stem for place in folder.glob("*.npy") if place.stem != "labels"))
    if not names or not (folder / "labels.npy").is_file():
        raise InputError(
            f"{str(folder)!r} holds no CIFAR-10-C; give the folder with labels.npy and one .npy "
            "file per corruption"
        )
    return names


def cifar10c(folder: Path, name: str, severity: int, clean: Dataset) -> Dataset:
    """Read the corrupted versions of the images of the CIFAR-10 test split.

    Args:
        folder: With NAME.npy, (50000, 32, 32, 3) uint8 by severity, and labels.npy.
        name: The corruption.
        severity: 1 to 5.
        clean: Images of the CIFAR-10 test split, all, the first ones, or those at its `rows`.

    Returns:
        As many corrupted images, in the same order.

    Raises:
        InputError: When the file is absent or of another shape, or the labels are not those of the
            clean images.

    Reference:
        Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
        Perturbations, ICLR 2019.
    """
    if name not in cifar10c_names(folder):
        raise InputError(
            f"{str(folder)!r} has no {name!r}; it has {', '.join(cifar10c_names(folder))}"
        )
    if severity not in (1, 2, 3, 4, 5):
        raise InputError(f"severity {severity!r} is not from 1 to 5")
    stored = map_npy(folder / f"{name}.npy")
    labels = read_npy(folder / "labels.npy")
    begin = (severity - 1) * PER_SEVERITY
    rows = begin + (np.arange(len(clean)) if clean.rows is None else clean.rows)
    if stored.dtype != np.uint8 or stored.ndim != 4 or len(stored) <= int(rows.max()):
        raise InputError(
            f"{name}.npy has shape {stored.shape} of {stored.dtype}; expected uint8 images, "
            f"{PER_SEVERITY} per severity"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(stored):
        raise InputError(
            f"labels.npy in {str(folder)!r} has shape {labels.shape} of {labels.dtype}; expected "
            f"one whole number for each of {len(stored)} images"
        )
    if not np.array_equal(labels[rows], clean.labels):
        raise InputError(
            f"the labels in {str(folder)!r} are not those of {clean.name!r}; give the CIFAR-10 "
            "test split in its own order"
        )
    name = f"{clean.name}/{name}-{severity}"
    return replace(clean, name=name, images=np.array(stored[rows]))
