"""Open image files of strangers: only formats that are named, and nothing before its size is known.

This is the only place where an image is opened. Pillow knows some 45 formats; a few start other
programs (EPS starts Ghostscript) or load plugins, and most have seen few malformed files.
"""

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from PIL import Image, UnidentifiedImageError

from robustcl.core.errors import InputError
from robustcl.core.files import open_file
from robustcl.data.image_heads import objection_to_head

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
NAMED = "PNG, JPEG, BMP, GIF, WebP, TIFF or PPM"
MOST_PIXELS = 2**26  # of an image, 8192 x 8192; decoding takes some 8 bytes for each
FEW_PIXELS = 2**16
MOST_FILE = 2**29  # of an image file; so many pixels need fewer
# Starts of frames, with precision, height and width. Entropy-coded data never look like one.
JPEG = b"\xff\xd8\xff"
JPEG_FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]...(..)(..)", re.DOTALL)
TILES = ((322, "width"), (323, "height"))  # tags of TIFF
CURE = "remove or replace it"
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
        InputError: When it is no ordinary file, of another format, too large, or damaged.
        MemoryError: When memory runs out all the same.
    """
    with _opened_stream(source, name) as stream:
        try:
            found = objection_to_head(stream)
            if found is not None:
                raise InputError(f"{name} cannot be decoded ({found}); {CURE}")
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
            raise InputError(
                f"{name} cannot be decoded (it is no image of a known format: {NAMED}); {CURE}"
            ) from error
        except Image.DecompressionBombError as error:
            raise InputError(
                f"{name} has more than the {MOST_PIXELS:,} pixels that an image may have; "
                "make it smaller"
            ) from error
        except Exception as error:  # decoders of damaged files raise a dozen kinds
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{name} cannot be decoded ({reason}); {CURE}") from error


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
        raise InputError(f"{name} has {width}x{height} pixels; {CURE}")
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
        InputError: When it is too large or damaged.
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
            raise InputError(f"{name} cannot be decoded ({reason}); {CURE}") from error
    assert isinstance(pixels, torch.Tensor)
    return pixels


@contextmanager
def _opened_stream(source: Source, name: str) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        _check_bytes(len(source), name)
        yield io.BytesIO(source)
        return
    with open_file(source, cure=CURE) as stream:
        _check_bytes(stream.seek(0, io.SEEK_END), name)
        stream.seek(0)
        yield stream


def _check_bytes(size: int, name: str) -> None:
    if size > MOST_FILE:
        raise InputError(
            f"{name} has {size:,} bytes; an image file has at most {MOST_FILE:,}, so {CURE}"
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
