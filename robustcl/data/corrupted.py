"""Corrupt images as CIFAR-10-C does, in eight of its ways.

No package was fit: those on PyPI carry the severities of ImageNet-C, refuse images below 32 pixels,
draw from NumPy's global generator and need OpenCV and numba. These eight need NumPy, SciPy and
Pillow, their severities are those of CIFAR-10-C, and every image has its own seed. Weather, motion
and glass are left out; for them give a folder of CIFAR-10-C (see `cifar10c`).
"""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from robustcl.core.errors import InputError
from robustcl.core.specification import choose
from robustcl.data.dataset import Dataset
from robustcl.data.open_image import opened_image

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
