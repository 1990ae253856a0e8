"""Decode image files into one uint8 array."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from robustcl.errors import InputError

GRAY_MODES = ("1", "L", "LA")
DEEP_MODES = ("I", "F")
SMALL = 16384
JPEG = b"\xff\xd8\xff"


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
        InputError: When there is no image, one cannot be decoded, or the sizes differ.
    """
    if not sources:
        raise InputError("there are no images to decode; check the path")
    pairs = list(zip(sources, names, strict=True))
    if all(isinstance(source, bytes) and len(source) < SMALL for source in sources):
        # Measured: for small images threads cost more than they save.
        arrays = [_decode_one(source, name, size) for source, name in pairs]
    else:
        with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 16)) as pool:
            arrays = list(pool.map(lambda pair: _decode_one(pair[0], pair[1], size), pairs))
    if any(array.shape[2] == 3 for array in arrays):
        arrays = [np.repeat(a, 3, axis=2) if a.shape[2] == 1 else a for a in arrays]
    for array, name in zip(arrays, names, strict=True):
        if array.shape != arrays[0].shape:
            raise InputError(
                f"{name} has {array.shape[1]}x{array.shape[0]} pixels but {names[0]} has "
                f"{arrays[0].shape[1]}x{arrays[0].shape[0]}; add ',size=N' to resize and crop them"
            )
    return np.stack(arrays)


def _decode_one(source: bytes | Path, name: str, size: int | None) -> np.ndarray:
    if size is None and isinstance(source, bytes) and source.startswith(JPEG):
        array = _decode_jpeg(source, name)
        if array.shape[2] in (1, 3):
            return array
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.mode in DEEP_MODES or image.mode.startswith("I;"):
                raise InputError(f"{name} has mode {image.mode}; convert it to 8 bits per channel")
            pixels = image.convert("L" if image.mode in GRAY_MODES else "RGB")
    except FileNotFoundError as error:
        raise InputError(f"there is no image file {str(source)!r}") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{name} cannot be decoded (it is no image of a known format); remove or replace it"
        ) from error
    except OSError as error:
        raise InputError(f"{name} cannot be decoded ({error}); remove or replace it") from error
    array = np.asarray(pixels if size is None else _square(pixels, size))
    return array if array.ndim == 3 else array[..., None]


def _decode_jpeg(source: bytes, name: str) -> np.ndarray:
    from torchvision.io import decode_jpeg  # slow to import

    try:
        pixels = decode_jpeg(torch.frombuffer(bytearray(source), dtype=torch.uint8))
    except RuntimeError as error:
        raise InputError(f"{name} cannot be decoded ({error}); remove or replace it") from error
    assert isinstance(pixels, torch.Tensor)
    return pixels.permute(1, 2, 0).numpy()


def _square(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    scale = size / min(width, height)
    wide, high = max(round(width * scale), size), max(round(height * scale), size)
    resized = image.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = (wide - size) // 2, (high - size) // 2
    return resized.crop((left, top, left + size, top + size))
