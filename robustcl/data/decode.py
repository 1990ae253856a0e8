"""Decode image files into one uint8 array."""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from robustcl.core.errors import InputError
from robustcl.core.memory import require_memory
from robustcl.data.open_image import JPEG, MOST_PIXELS, check_pixels, jpeg_tensor, opened_image

GRAY_MODES = ("1", "L", "LA")
DEEP_MODES = ("I", "F")
SMALL = 16384
Shape = tuple[tuple[int, int], str] | None  # width and height of all images, and whose they are


def decode(
    sources: Sequence[bytes | Path], *, names: Sequence[str], size: int | None = None
) -> np.ndarray:
    """Decode images by PIL; JPEG contents by torchvision, which gives the same pixels sooner.

    With `size`, the shorter side is resized to it (bilinear, antialiased, aspect kept) and the
    central square is cut out; a radius is then measured in the pixels of that square. The EXIF
    orientation is ignored and transparency is dropped.

    Args:
        sources: File contents, or paths.
        names: What to call each image in messages.
        size: Side of the square in pixels; None keeps the pixels as they are, in which case all
            images must have one size.

    Returns:
        (N, H, W, C) uint8; C = 1 when every image is gray, else 3.

    Raises:
        InputError: When there is no image, one cannot be decoded, the sizes differ, or the images
            do not fit into memory together.
    """
    if not sources:
        raise InputError("there are no images to decode; check the path")
    pairs = list(zip(sources, names, strict=True))
    shape = None
    if size is None:
        shape = _check_first(pairs)
    else:
        check_size(size)
        _require_room(pairs, (size, size), 3)
    few = len(pairs) == 1 or all(isinstance(s, bytes) and len(s) < SMALL for s in sources)
    if few:
        # Measured: for small images threads cost more than they save.
        arrays = [_decode_one(source, name, size, shape) for source, name in pairs]
    else:
        with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 16)) as pool:
            arrays = list(pool.map(lambda pair: _decode_one(pair[0], pair[1], size, shape), pairs))
    if any(array.shape[2] == 3 for array in arrays):
        arrays = [np.repeat(a, 3, axis=2) if a.shape[2] == 1 else a for a in arrays]
    return np.stack(arrays)


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


def _check_first(pairs: list[tuple[bytes | Path, str]]) -> tuple[tuple[int, int], str]:
    # The size that all images must have, and the name of the first, which has it.
    with opened_image(*pairs[0]) as first:
        width, height = first.size
        channels = 1 if first.mode in GRAY_MODES else 3
    _require_room(pairs, (width, height), channels)
    return (width, height), pairs[0][1]


def _require_room(
    pairs: list[tuple[bytes | Path, str]], size: tuple[int, int], channels: int
) -> None:
    require_memory(
        2 * len(pairs) * size[0] * size[1] * channels,  # the images one by one, and in one array
        what=f"{len(pairs):,} images of {size[0]}x{size[1]} pixels",
        cure="use a smaller --batch-size or ',size=N'",
    )


def _decode_one(source: bytes | Path, name: str, size: int | None, shape: Shape) -> np.ndarray:
    if size is None and isinstance(source, bytes) and source.startswith(JPEG):
        array = jpeg_tensor(source, name).permute(1, 2, 0).numpy()
        if array.shape[2] in (1, 3):
            _check_shape((array.shape[1], array.shape[0]), name, shape)
            return array
    with opened_image(source, name) as image:
        if size is None:
            _check_shape(image.size, name, shape)
        else:
            check_pixels(*_resized(image.size, size), name, resized=f" when resized to size={size}")
        if image.mode in DEEP_MODES or image.mode.startswith("I;"):
            raise InputError(f"{name} has mode {image.mode}; convert it to 8 bits per channel")
        mode = "L" if image.mode in GRAY_MODES else "RGB"
        if image.mode == mode:
            image.load()
        pixels = image if image.mode == mode else image.convert(mode)
        array = np.asarray(pixels if size is None else _square(pixels, size))
    return array if array.ndim == 3 else array[..., None]


def _check_shape(size: tuple[int, int], name: str, shape: Shape) -> None:
    if shape is not None and size != shape[0]:
        wide, high = shape[0]
        raise InputError(
            f"{name} has {size[0]}x{size[1]} pixels but {shape[1]} has {wide}x{high}; "
            "add ',size=N' to resize and crop them"
        )


def _resized(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = side / min(size)
    return max(round(size[0] * scale), side), max(round(size[1] * scale), side)


def _square(image: Image.Image, size: int) -> Image.Image:
    wide, high = _resized(image.size, size)
    resized = image.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = (wide - size) // 2, (high - size) // 2
    return resized.crop((left, top, left + size, top + size))
