"""Bring images to the size and the channels that a model takes."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image

from robustcl.core.errors import InputError

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)
COLORS = {"gray": 1, "rgb": 3}
MOST_PIXELS = 2**26  # of an image, 8192 x 8192; decoding takes some 8 bytes for each


def check_size(size: int) -> None:
    """Refuse a side to which no image can be resized.

    Args:
        size: Side of the square in pixels.

    Raises:
        InputError: When it is below 1, or the square has too many pixels.
    """
    if size < 1 or size * size > MOST_PIXELS:
        raise InputError(
            f"size {size} is not a whole number from 1 to {math.isqrt(MOST_PIXELS)}; write size=224"
        )


@dataclass(frozen=True)
class ImageTransform:
    """State what is done to every image after it was decoded, in this order.

    A radius is measured in the pixels of the result, scaled to [0, 1].

    Args:
        upright: Turn it as its EXIF orientation says; without, it is left as torchvision's loader
            leaves it.
        channels: Make it gray (1) or colored (3); None keeps it, and colors all where one is.
        resize: Resize its shorter side to so many pixels, its aspect kept; None for not.
        squash: Resize both sides to that, whatever its aspect.
        interpolation: How; antialiased, as Pillow does it.
        crop: Cut out the central square of so many pixels; None for not.

    Raises:
        InputError: When a side is no usable number of pixels, the crop is larger than the resized
            side, or channels are neither 1 nor 3.
    """

    resize: int | None = None
    crop: int | None = None
    interpolation: Interpolation = "bilinear"
    channels: int | None = None
    upright: bool = False
    squash: bool = False

    def __post_init__(self) -> None:
        for side in (self.resize, self.crop):
            if side is not None:
                check_size(side)
        if self.channels not in (None, *COLORS.values()):
            raise InputError(f"channels {self.channels} of a transform are neither 1 nor 3")
        if self.crop is not None and self.resize is not None and self.crop > self.resize:
            raise InputError(
                f"images are resized to {self.resize} and cropped to {self.crop}, which is more; "
                "give a crop of at most the resized side"
            )

    def __str__(self) -> str:
        how = "squash" if self.squash else "resize"
        parts = [
            f"{how} to {self.resize} ({self.interpolation})" if self.resize else "",
            f"crop {self.crop}" if self.crop else "",
            {None: "", 1: "gray", 3: "rgb"}[self.channels],
            "turned upright by EXIF" if self.upright else "",
        ]
        return ", ".join(filter(None, parts))

    @property
    def sized(self) -> bool:
        """Whether all images have one size afterwards, whatever they had."""
        return self.crop is not None

    @property
    def key(self) -> str:
        """What tells this transform from others in the hash of a data set."""
        plain = ImageTransform(self.crop, self.crop)
        return str(self.crop) if self == plain else repr(self)

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Compute width and height after resizing.

        Args:
            size: Width and height before.

        Returns:
            Width and height, at least those of the crop.
        """
        if self.resize is None:
            return size
        if self.squash:
            return self.resize, self.resize
        scale = self.resize / min(size)
        return max(round(size[0] * scale), self.resize), max(round(size[1] * scale), self.resize)

    def of_picture(self, image: Image.Image) -> Image.Image:
        """Resize and crop a picture.

        Args:
            image: The picture.

        Returns:
            The result.
        """
        size = self.resized(image.size)
        if size != image.size:
            image = image.resize(size, Image.Resampling[self.interpolation.upper()])
        if self.crop is None:
            return image
        left, top = ((side - self.crop) // 2 for side in size)
        return image.crop((left, top, left + self.crop, top + self.crop))

    def of_array(self, images: np.ndarray) -> np.ndarray:
        """Transform images of one size that are in memory.

        Args:
            images: (N, H, W, C), uint8 or floating in [0, 1].

        Returns:
            The same in another size; uint8 stays uint8.

        Raises:
            InputError: When they are smaller than the crop, or floating and to be resized by
                another interpolation than nearest, bilinear or bicubic.
        """
        images = self._colored(images)
        size = (images.shape[2], images.shape[1])
        if self.crop is not None and min(self.resized(size)) < self.crop:
            raise InputError(f"images of {size[0]}x{size[1]} pixels have no crop of {self.crop}")
        if self.resized(size) == size and self.crop in (None, *((size[0],) * (size[0] == size[1]))):
            return images
        if images.dtype == np.uint8:
            pictures = (
                Image.fromarray(one[..., 0] if one.shape[2] == 1 else one) for one in images
            )
            rows = [np.asarray(self.of_picture(picture)) for picture in pictures]
            return np.stack([row if row.ndim == 3 else row[..., None] for row in rows])
        return self._floating(images)

    def _floating(self, images: np.ndarray) -> np.ndarray:
        wide, high = self.resized((images.shape[2], images.shape[1]))
        points = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
        if (high, wide) != tuple(points.shape[2:]):
            if self.interpolation not in ("nearest", "bilinear", "bicubic"):
                raise InputError(
                    f"interpolation {self.interpolation} is for pictures of 8 bits; use bilinear"
                )
            smooth = self.interpolation != "nearest"
            points = torch.nn.functional.interpolate(
                points,
                size=(high, wide),
                mode=self.interpolation,
                align_corners=False if smooth else None,
                antialias=smooth,
            ).clamp(0.0, 1.0)
        if self.crop is not None:
            left, top = (wide - self.crop) // 2, (high - self.crop) // 2
            points = points[:, :, top : top + self.crop, left : left + self.crop]
        return points.permute(0, 2, 3, 1).numpy()

    def _colored(self, images: np.ndarray) -> np.ndarray:
        if self.channels is None or images.shape[3] == self.channels:
            return images
        if self.channels == 3:
            return np.repeat(images, 3, axis=3)
        if images.dtype == np.uint8:
            return np.stack([np.asarray(Image.fromarray(one).convert("L")) for one in images])[
                ..., None
            ]
        weights = np.array([0.299, 0.587, 0.114], dtype=images.dtype)  # ITU-R 601, as Pillow
        return (images @ weights)[..., None]


def square(size: int | None) -> ImageTransform:
    """State the transform of `size=N`.

    Args:
        size: Side in pixels; None for no transform.

    Returns:
        Resize the shorter side to it, bilinear, then crop the center.
    """
    return ImageTransform(size, size)
