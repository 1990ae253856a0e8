"""Decode images when they are asked for, so that no data set need fit into memory."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from robustcl.core.errors import InputError
from robustcl.core.files import read_file
from robustcl.data.images import GRAY_MODES, IMAGE_CURE, MOST_FILE, Source, decode, opened_image

_MOST_BYTES = 256 * 2**20  # of decoded images that are held in memory; larger sets are streamed
_CHECKED = 1024  # images whose files are read at once before a run
Fetch = Callable[[np.ndarray], list[Source]]


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """Stand for a (N, H, W, C) uint8 array whose rows are decoded when they are asked for.

    Args:
        fetch: Positions in the source to file contents or paths.
        rows: (N,) positions in the source.
        image: (H, W, C) of every image.
        size: Side to which images are resized and cropped (see `decode`); None for none.
        digest: Hash of all files of the source that `rows` named at first, in hexadecimal digits.
        names: Position in the source to a name for messages.
    """

    fetch: Fetch
    rows: np.ndarray
    image: tuple[int, int, int]
    size: int | None
    digest: str
    names: Callable[[int], str]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return len(self.rows), *self.image

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels, uint8."""
        return np.dtype(np.uint8)

    def __getitem__(self, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode some images.

        Args:
            rows: Which.

        Returns:
            (B, H, W, C) uint8.

        Raises:
            InputError: When one cannot be decoded.
        """
        places = self.rows[rows]
        images = decode(
            self.fetch(places), names=[self.names(p) for p in places.tolist()], size=self.size
        )
        colors = self.image[2]
        return np.repeat(images, colors, axis=3) if images.shape[3] < colors else images

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """Decode all images, as numpy asks for it.

        Args:
            dtype: Type of the result; uint8 by default.
            copy: Is made in any case.

        Returns:
            (N, H, W, C).
        """
        del copy
        return self[:].astype(dtype or self.dtype, copy=False)

    def select(self, rows: slice | np.ndarray) -> "StreamedImages":
        """Return some of the images, still not decoded.

        Args:
            rows: Which, in the order wanted.

        Returns:
            The smaller set.
        """
        return replace(self, rows=self.rows[rows])

    def identity(self) -> bytes:
        """Return what tells these images from others: a hash of the files and the choice."""
        digest = hashlib.sha256(f"{self.digest} {self.size}".encode())
        digest.update(self.rows.astype("<i8").tobytes())
        return digest.digest()


def hold_images(
    fetch: Fetch, rows: np.ndarray, *, names: Callable[[int], str], size: int | None
) -> np.ndarray | StreamedImages:
    """Decode images at once where they fit into memory, else when they are asked for.

    Before a large set is streamed, the head of every file is read: images of other sizes are
    refused at once, and it is settled whether all are gray.

    Args:
        fetch: Positions in the source to file contents or paths.
        rows: (N,) positions in the source.
        names: Position in the source to a name for messages.
        size: Side to which images are resized and cropped; None for none.

    Returns:
        (N, H, W, C) uint8, or what stands for it.

    Raises:
        InputError: When an image cannot be read, or the sizes differ.
    """
    first = decode(fetch(rows[:1]), names=[names(int(row)) for row in rows[:1]], size=size)
    if first.nbytes * len(rows) <= _MOST_BYTES:
        return decode(fetch(rows), names=[names(row) for row in rows.tolist()], size=size)
    high, wide = first.shape[1:3]
    digest, colored = hashlib.sha256(), False
    for start in range(0, len(rows), _CHECKED):
        chunk = rows[start : start + _CHECKED]
        for row, source in zip(chunk.tolist(), fetch(chunk), strict=True):
            content = _content(source)
            digest.update(hashlib.sha256(content).digest())
            mode, (width, height) = _head(content, names(row))
            colored = colored or mode not in GRAY_MODES
            if size is None and (height, width) != (high, wide):
                raise InputError(
                    f"{names(row)} has {width}x{height} pixels but {names(int(rows[0]))} has "
                    f"{wide}x{high}; add ',size=N' to resize and crop them"
                )
    image = (high, wide, 3 if colored else 1)
    return StreamedImages(fetch, rows, image, size, digest.hexdigest(), names)


def _content(source: Source) -> bytes:
    return (
        source if isinstance(source, bytes) else read_file(source, most=MOST_FILE, cure=IMAGE_CURE)
    )


def _head(content: bytes, name: str) -> tuple[str, tuple[int, int]]:
    with opened_image(content, name) as image:
        return image.mode, image.size
