"""Decode images when they are asked for, so that no data set need fit into memory."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from robustcl.core.errors import InputError
from robustcl.core.files import read_file
from robustcl.data.images import (
    GRAY_MODES,
    IMAGE_CURE,
    MOST_FILE,
    BadImageError,
    Seen,
    Source,
    decode,
    opened_image,
    orientation_of,
)
from robustcl.data.transform import ImageTransform

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
        transform: What is done to each image.
        digest: Hash of all files of the source that `rows` named at first, in hexadecimal digits.
        names: Position in the source to a name for messages.
    """

    fetch: Fetch
    rows: np.ndarray
    image: tuple[int, int, int]
    transform: ImageTransform
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
            self.fetch(places),
            names=[self.names(p) for p in places.tolist()],
            transform=self.transform,
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
        digest = hashlib.sha256(f"{self.digest} {self.transform.key}".encode())
        digest.update(self.rows.astype("<i8").tobytes())
        return digest.digest()


@dataclass(frozen=True, eq=False)
class Pixels:
    """Hold images of which some may have been left out.

    Args:
        images: (M, H, W, C) uint8, or what stands for it.
        kept: (M,) positions among those that were asked for.
        notes: What was left out, a sentence each.
    """

    images: np.ndarray | StreamedImages
    kept: np.ndarray
    notes: tuple[str, ...] = ()


def hold_images(
    fetch: Fetch,
    rows: np.ndarray,
    *,
    names: Callable[[int], str],
    transform: ImageTransform,
    strict: bool = True,
) -> Pixels:
    """Decode images at once where they fit into memory, else when they are asked for.

    Before a large set is streamed, the head of every file is read: images of other sizes are
    refused at once, and it is settled whether all are gray.

    Args:
        fetch: Positions in the source to file contents or paths.
        rows: (N,) positions in the source.
        names: Position in the source to a name for messages.
        transform: What is done to each image.
        strict: Whether a file that cannot be decoded is refused; otherwise it is left out and told.

    Returns:
        The images.

    Raises:
        InputError: When an image cannot be read, or the sizes differ.
    """
    seen = Seen()
    first = _first_image(fetch, rows, names, transform, strict=strict)
    if first.nbytes * len(rows) <= _MOST_BYTES:
        called = [names(row) for row in rows.tolist()]
        found = None if strict else seen
        images = decode(fetch(rows), names=called, transform=transform, seen=found)
    else:
        images = _streamed(fetch, rows, first, names, transform, None if strict else seen)
    kept = np.array([k for k in range(len(rows)) if k not in seen.bad], dtype=np.int64)
    return Pixels(images, kept, _notes(seen, [names(int(rows[k])) for k in sorted(seen.bad)],
                                       transform))  # fmt: skip


def _first_image(
    fetch: Fetch,
    rows: np.ndarray,
    names: Callable[[int], str],
    transform: ImageTransform,
    *,
    strict: bool,
) -> np.ndarray:
    for number, row in enumerate(rows.tolist()):
        try:
            return decode(fetch(rows[number : number + 1]), names=[names(row)],
                          transform=transform)  # fmt: skip
        except BadImageError:
            if strict or number == len(rows) - 1:
                raise
    raise InputError("there are no images to decode; check the path")


def _notes(seen: Seen, bad: list[str], transform: ImageTransform) -> tuple[str, ...]:
    notes = []
    if bad:
        count = "1 image was" if len(bad) == 1 else f"{len(bad)} images were"
        more = ", ..." if len(bad) > 3 else ""
        reason = next(iter(seen.bad.values())).partition(" cannot be decoded ")[2]
        notes.append(
            f"{count} left out that cannot be decoded: {', '.join(bad[:3])}{more} "
            f"{reason.rpartition(';')[0]}; --strict refuses the data instead"
        )
    if seen.turned and not transform.upright:
        count = "1 image carries" if len(seen.turned) == 1 else f"{len(seen.turned)} images carry"
        notes.append(
            f"{count} an EXIF orientation, which is ignored, as torchvision's loader does; add "
            "',exif=apply' to the data to turn such images upright"
        )
    return tuple(notes)


def _streamed(
    fetch: Fetch,
    rows: np.ndarray,
    first: np.ndarray,
    names: Callable[[int], str],
    transform: ImageTransform,
    seen: Seen | None,
) -> StreamedImages:
    high, wide = first.shape[1:3]
    digest, colored = hashlib.sha256(), False
    for start in range(0, len(rows), _CHECKED):
        chunk = rows[start : start + _CHECKED]
        for offset, (row, source) in enumerate(zip(chunk.tolist(), fetch(chunk), strict=True)):
            content = _content(source)
            try:
                mode, (width, height), turned = _head(content, names(row), transform)
            except BadImageError as error:
                if seen is None:
                    raise
                seen.bad[start + offset] = str(error)
                continue
            digest.update(hashlib.sha256(content).digest())
            colored = colored or mode not in GRAY_MODES
            if turned and seen is not None:
                seen.turned.add(start + offset)
            if transform.crop is None and (height, width) != (high, wide):
                raise InputError(
                    f"{names(row)} has {width}x{height} pixels but {names(int(rows[0]))} has "
                    f"{wide}x{high}; add ',size=N' to resize and crop them"
                )
    channels = transform.channels or (3 if colored else 1)
    bad = seen.bad if seen is not None else {}
    kept = rows[[k for k in range(len(rows)) if k not in bad]]
    return StreamedImages(fetch, kept, (high, wide, channels), transform, digest.hexdigest(), names)


def _content(source: Source) -> bytes:
    return (
        source if isinstance(source, bytes) else read_file(source, most=MOST_FILE, cure=IMAGE_CURE)
    )


def _head(
    content: bytes, name: str, transform: ImageTransform
) -> tuple[str, tuple[int, int], bool]:
    with opened_image(content, name) as image:
        turned = orientation_of(image)
        size = image.size[::-1] if transform.upright and turned > 4 else image.size
        return image.mode, (size[0], size[1]), turned > 1
