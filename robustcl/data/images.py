"""Open image files and make tensors of them."""

import io
import os
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from robustcl.core.errors import InputError
from robustcl.core.files import open_file
from robustcl.core.memory import require_memory
from robustcl.data.image_heads import objection_to_head
from robustcl.data.transform import MOST_PIXELS, ImageTransform, square

GRAY_MODES = ("1", "L", "LA")
DEEP_MODES = ("I", "F")
_SMALL = 16384
_Shape = tuple[tuple[int, int], str] | None  # width and height of all images, and whose they are


class BadImageError(InputError):
    """Raised for an image that cannot be decoded, and that may be left out."""


@dataclass
class Seen:
    """Hold what was found in files while they were decoded.

    Args:
        bad: By position, why an image cannot be decoded.
        turned: Positions of images that carry an EXIF orientation.
    """

    bad: dict[int, str] = field(default_factory=dict)
    turned: set[int] = field(default_factory=set)


def decode(
    sources: Sequence[bytes | Path],
    *,
    names: Sequence[str],
    size: int | None = None,
    transform: ImageTransform | None = None,
    seen: Seen | None = None,
) -> np.ndarray:
    """Decode images by PIL; JPEG contents by torchvision, which gives the same pixels sooner.

    Transparency is dropped. The EXIF orientation is ignored where the transform does not say
    otherwise.

    Args:
        sources: File contents, or paths.
        names: What to call each image in messages.
        size: Stands for the transform `square(size)`.
        transform: What is done to each image; where it does not bring them to one size, all must
            have one.
        seen: Receives the images that cannot be decoded, which are then left out, and those with an
            EXIF orientation; None refuses an image that cannot be decoded.

    Returns:
        (N, H, W, C) uint8; C = 1 when every image is gray, else 3.

    Raises:
        InputError: When there is no image, one cannot be decoded, the sizes differ, or the images
            do not fit into memory together.
    """
    if not sources:
        raise InputError("there are no images to decode; check the path")
    how = transform or square(size)
    pairs = list(zip(sources, names, strict=True))
    shape = None
    if how.crop is None:
        shape = _check_first(pairs, how, skip=seen is not None)
    else:
        _require_room(pairs, (how.crop, how.crop), 3)

    def work(number: int) -> np.ndarray | None:
        try:
            return _decode_one(*pairs[number], how, shape, number, seen)
        except BadImageError as error:
            if seen is None:
                raise
            seen.bad[number] = str(error)
            return None

    few = len(pairs) == 1 or all(isinstance(s, bytes) and len(s) < _SMALL for s in sources)
    if few:
        # Measured: for small images threads cost more than they save.
        found = [work(number) for number in range(len(pairs))]
    else:
        with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 16)) as pool:
            found = list(pool.map(work, range(len(pairs))))
    arrays = [array for array in found if array is not None]
    if not arrays:
        raise InputError(
            f"no image can be decoded; the first: {next(iter(seen.bad.values()))}"
            if seen and seen.bad
            else "there are no images to decode"
        )
    if any(array.shape[2] == 3 for array in arrays):
        arrays = [np.repeat(a, 3, axis=2) if a.shape[2] == 1 else a for a in arrays]
    return np.stack(arrays)


def _check_first(
    pairs: list[tuple[bytes | Path, str]], how: ImageTransform, *, skip: bool
) -> tuple[tuple[int, int], str]:
    # The size that all images must have, and the name of the first that opens, which has it.
    for number, pair in enumerate(pairs):
        try:
            with opened_image(*pair) as first:
                width, height = _upright_size(first, how)
                channels = 1 if first.mode in GRAY_MODES else 3
        except BadImageError:
            if not skip or number == len(pairs) - 1:
                raise
            continue
        _require_room(pairs, (width, height), channels)
        return (width, height), pair[1]
    raise InputError("there are no images to decode; check the path")


_ORIENTATION = 0x0112
_TURNED = range(2, 9)  # orientations that turn or mirror
_SIDEWAYS = range(5, 9)  # and change width and height


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an image.

    Args:
        image: The image.

    Returns:
        1 to 8; 1, as it is, also where there is none or it is none of these.
    """
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 damaged metadata; the pixels are what counts
        return 1
    return found if found in _TURNED else 1


def _upright_size(image: Image.Image, how: ImageTransform) -> tuple[int, int]:
    width, height = image.size
    turned = how.upright and orientation_of(image) in _SIDEWAYS
    return (height, width) if turned else (width, height)


def _require_room(
    pairs: list[tuple[bytes | Path, str]], size: tuple[int, int], channels: int
) -> None:
    require_memory(
        2 * len(pairs) * size[0] * size[1] * channels,  # the images one by one, and in one array
        what=f"{len(pairs):,} images of {size[0]}x{size[1]} pixels",
        cure="use a smaller --batch-size or ',size=N'",
    )


def _decode_one(
    source: bytes | Path,
    name: str,
    how: ImageTransform,
    shape: _Shape,
    number: int,
    seen: Seen | None,
) -> np.ndarray:
    quick = isinstance(source, bytes) and source.startswith(JPEG) and b"Exif" not in source[:4096]
    if isinstance(source, bytes) and quick and how == ImageTransform():
        array = jpeg_tensor(source, name).permute(1, 2, 0).numpy()
        if array.shape[2] in (1, 3):
            _check_shape((array.shape[1], array.shape[0]), name, shape)
            return array
    with opened_image(source, name) as image:
        turned = orientation_of(image)
        if turned > 1 and seen is not None:
            seen.turned.add(number)
        if how.crop is None:
            _check_shape(_upright_size(image, how), name, shape)
        else:
            said = f" when resized to size={how.resize}"
            check_pixels(*how.resized(image.size), name, resized=said)
            if min(how.resized(image.size)) < how.crop:
                raise InputError(
                    f"{name} has {image.width}x{image.height} pixels and no crop of {how.crop}; "
                    "add ',resize=N'"
                )
        if image.mode in DEEP_MODES or image.mode.startswith("I;"):
            raise InputError(f"{name} has mode {image.mode}; convert it to 8 bits per channel")
        mode = "L" if image.mode in GRAY_MODES else "RGB"
        mode = {None: mode, 1: "L", 3: "RGB"}[how.channels]
        if image.mode == mode:
            image.load()
        pixels = image if image.mode == mode else image.convert(mode)
        if how.upright and turned > 1:
            pixels = ImageOps.exif_transpose(pixels) or pixels
        array = np.asarray(how.of_picture(pixels))
    return array if array.ndim == 3 else array[..., None]


def _check_shape(size: tuple[int, int], name: str, shape: _Shape) -> None:
    if shape is not None and size != shape[0]:
        wide, high = shape[0]
        raise InputError(
            f"{name} has {size[0]}x{size[1]} pixels but {shape[1]} has {wide}x{high}; "
            "add ',size=N' to resize and crop them"
        )


FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_NAMED = "PNG, JPEG, BMP, GIF, WebP, TIFF or PPM"
FEW_PIXELS = 2**16
MOST_FILE = 2**29  # of an image file; so many pixels need fewer
# Starts of frames, with precision, height and width. Entropy-coded data never look like one.
JPEG = b"\xff\xd8\xff"
JPEG_FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]...(..)(..)", re.DOTALL)
TILES = ((322, "width"), (323, "height"))  # tags of TIFF
IMAGE_CURE = "remove or replace it"
Source = bytes | Path


@contextmanager
def opened_image(source: Source, name: str) -> Iterator[Image.Image]:
    """Open an image of a format of `FORMATS`; its pixels are decoded when they are asked for.

    Whatever the decoder finds wrong within the block is told as one error. Images that are decoded
    at the same time have `MOST_PIXELS` together.

    Args:
        source: The file's content, or its path.
        name: What to call it in messages.

    Yields:
        The image, of at most `MOST_PIXELS` pixels; of several frames the first.

    Raises:
        InputError: When it is no ordinary file, or too large.
        BadImageError: When it is of another format, or damaged.
        MemoryError: When memory runs out all the same.
    """
    with _opened_stream(source, name) as stream:
        try:
            found = objection_to_head(stream)
            if found is not None:
                raise BadImageError(f"{name} cannot be decoded ({found}); {IMAGE_CURE}")
            with Image.open(stream, formats=FORMATS) as image:
                # WebP's decoder holds several images of this size.
                most = MOST_PIXELS // 2 if image.format == "WEBP" else MOST_PIXELS
                check_pixels(*image.size, name, most=most)
                _check_tiles(image, name)
                with _ROOM.taken(image.width * image.height):
                    yield image
        except (InputError, MemoryError):
            raise
        except UnidentifiedImageError as error:
            raise BadImageError(
                f"{name} cannot be decoded (it is no image of a known format: {_NAMED}); "
                f"{IMAGE_CURE}"
            ) from error
        except Image.DecompressionBombError as error:
            raise InputError(
                f"{name} has more than the {MOST_PIXELS:,} pixels that an image may have; "
                "make it smaller"
            ) from error
        except Exception as error:  # decoders of damaged files raise a dozen kinds
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BadImageError(f"{name} cannot be decoded ({reason}); {IMAGE_CURE}") from error


def check_pixels(
    width: int, height: int, name: str, *, resized: str = "", most: int = MOST_PIXELS
) -> None:
    """Refuse an image that has too many pixels.

    Args:
        width: In pixels.
        height: In pixels.
        name: What to call it.
        resized: How the size came about, where it is not the file's own: ' when resized'.
        most: Pixels that it may have.

    Raises:
        InputError: When it has more, or none.
    """
    if width < 1 or height < 1:
        raise InputError(f"{name} has {width}x{height} pixels; {IMAGE_CURE}")
    if width * height > most:
        raise InputError(
            f"{name} has {width}x{height} pixels{resized}, more than the {most:,} that an image "
            "may have; make it smaller"
        )


def jpeg_tensor(content: bytes, name: str) -> torch.Tensor:
    """Decode the content of a JPEG file by torchvision, which is sooner than Pillow.

    Args:
        content: Begins with `JPEG`.
        name: What to call it.

    Returns:
        (C, H, W) uint8, in as many channels as the file has.

    Raises:
        InputError: When it is too large.
        BadImageError: When it is damaged.
    """
    _check_bytes(len(content), name)
    # Every start of a frame in the file counts, also of a thumbnail, so that no decoder's own
    # way of finding the right one matters.
    from torchvision.io import decode_jpeg  # slow to import

    most = 0
    for high, wide in JPEG_FRAME.findall(content):
        width, height = int.from_bytes(wide), int.from_bytes(high)
        check_pixels(width, height, name)
        most = max(most, width * height)
    with _ROOM.taken(most):
        try:
            pixels = decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise BadImageError(f"{name} cannot be decoded ({reason}); {IMAGE_CURE}") from error
    assert isinstance(pixels, torch.Tensor)
    return pixels


@contextmanager
def _opened_stream(source: Source, name: str) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        _check_bytes(len(source), name)
        yield io.BytesIO(source)
        return
    with open_file(source, cure=IMAGE_CURE) as stream:
        _check_bytes(stream.seek(0, io.SEEK_END), name)
        stream.seek(0)
        yield stream


def _check_bytes(size: int, name: str) -> None:
    if size > MOST_FILE:
        raise InputError(
            f"{name} has {size:,} bytes; an image file has at most {MOST_FILE:,}, so {IMAGE_CURE}"
        )


def _check_tiles(image: Image.Image, name: str) -> None:
    # A tile may be larger than the image, and is decoded whole.
    tags = getattr(image, "tag_v2", {})
    sides = [tags.get(tag, 1) for tag, _ in TILES]
    if all(isinstance(side, int) for side in sides):
        check_pixels(sides[0], sides[1], name, resized=" in every tile")


class _Room:
    """Let threads take pixels, of a fixed number that they share.

    Args:
        size: The number.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, count: int) -> Iterator[None]:
        """Wait until so many are free, and take them.

        Args:
            count: At most the number that is shared; few are not counted.
        """
        if count < FEW_PIXELS:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: self._free >= count)
            self._free -= count
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()


_ROOM = _Room(MOST_PIXELS)
