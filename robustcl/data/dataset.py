"""Hold a data set, and give it in batches."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from robustcl.core.errors import InputError
from robustcl.data.streamed_images import StreamedImages


@dataclass(frozen=True, eq=False)
class Batch:
    """Hold some images with their labels and their places in the data set.

    Args:
        index: (B,) int64 positions in the data set.
        images: (B, C, H, W) float32 in [0, 1].
        labels: (B,) int64 classes.
    """

    index: Tensor
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.index)

    def select(self, rows: Tensor) -> "Batch":
        """Return some of the images.

        Args:
            rows: (R,) positions in the batch, on the CPU.

        Returns:
            The batch of these.
        """
        there = rows.to(self.images.device)
        return Batch(self.index[rows], self.images[there], self.labels[there])

    def to(self, device: str | torch.device) -> "Batch":
        """Return the batch with images and labels on a device.

        Args:
            device: Where to.

        Returns:
            The batch; the index stays on the CPU.
        """
        return Batch(self.index, self.images.to(device), self.labels.to(device))


CHANNELS = (1, 3)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Hold one split of a data set, checked once, at the boundary.

    Args:
        name: What was loaded, for messages and manifests.
        images: (N, H, W, C) array, uint8 in 0..255 or floating in [0, 1], or `StreamedImages`; C is
            1 or 3.
        labels: (N,) integers >= 0; -1 throughout where there are none.
        class_names: One name per class; may be empty.
        labeled: Whether there are labels; without, all are set to -1.
        rows: (N,) the images' positions in the whole split; None where they are all of it.
        notes: What a person should be told about the data.

    Raises:
        InputError: When the images are empty, of a wrong shape or type, not finite or outside
            [0, 1], or when the labels are negative, too few, or have no class name.
    """

    name: str
    images: np.ndarray | StreamedImages
    labels: np.ndarray
    class_names: tuple[str, ...] = ()
    labeled: bool = True
    rows: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_images(self.name, self.images)
        if not self.labeled:
            object.__setattr__(self, "labels", np.full(len(self.images), -1, dtype=np.int64))
            object.__setattr__(self, "class_names", ())
        else:
            _check_labels(self.name, self.labels, len(self.images), len(self.class_names))
        object.__setattr__(self, "labels", np.ascontiguousarray(self.labels, dtype=np.int64))
        if not isinstance(self.images, StreamedImages) and self.images.dtype != np.uint8:
            object.__setattr__(self, "images", self.images.astype(np.float32))
        object.__setattr__(self, "class_names", tuple(str(name) for name in self.class_names))
        _check_names(self.name, self.class_names)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of every image."""
        height, width, channels = self.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of class names where there are any, else the largest label + 1, at least 1."""
        return len(self.class_names) or max(int(self.labels.max()) + 1, 1)

    def tensor(self, rows: slice | Sequence[int] | np.ndarray | None = None) -> Tensor:
        """Return images as a contiguous (B, C, H, W) tensor in their stored type.

        Args:
            rows: Which images; None for all.

        Returns:
            A uint8 (0..255) or float32 ([0, 1]) tensor that shares no memory with the data set.
        """
        chosen = self.images[slice(None) if rows is None else rows]
        return torch.from_numpy(np.array(np.transpose(chosen, (0, 3, 1, 2)), order="C"))

    def batch(self, indices: Sequence[int] | np.ndarray | Tensor) -> Batch:
        """Gather the images at the given positions.

        Args:
            indices: (B,) positions in 0..N-1.

        Returns:
            A batch whose images are float32 in [0, 1].

        Raises:
            InputError: When a position is outside the data set.
        """
        rows = np.asarray(indices, dtype=np.int64).reshape(-1)
        outside = rows[(rows < 0) | (rows >= len(self))]
        if outside.size:
            raise InputError(
                f"index {int(outside[0])} is outside {self.name!r}, which has {len(self)} images; "
                f"use indices from 0 to {len(self) - 1}"
            )
        images = self.tensor(rows)
        images = images.float().div_(255.0) if images.dtype == torch.uint8 else images
        return Batch(
            index=torch.from_numpy(rows.copy()),
            images=images,
            labels=torch.from_numpy(self.labels[rows]),
        )

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield all images in order; the last batch may be smaller.

        Args:
            batch_size: Images per batch, at least 1.

        Yields:
            Consecutive batches.

        Raises:
            InputError: When `batch_size` is below 1.
        """
        if batch_size < 1:
            raise InputError(f"batch_size {batch_size} is below 1; use a positive batch size")
        for start in range(0, len(self), batch_size):
            yield self.batch(np.arange(start, min(start + batch_size, len(self))))

    def select(self, rows: np.ndarray | slice) -> "Dataset":
        """Return the data set restricted to some rows, keeping all class names.

        Args:
            rows: Positions, in the order wanted.

        Returns:
            The smaller data set.
        """
        images = self.images
        chosen = images.select(rows) if isinstance(images, StreamedImages) else images[rows]
        before = np.arange(len(self)) if self.rows is None else self.rows
        return replace(self, images=chosen, labels=self.labels[rows], rows=before[rows])

    def hash(self) -> str:
        """Return a SHA-256 of shapes, pixels, labels and class names.

        Of images that are streamed the files stand for the pixels.

        Returns:
            64 hexadecimal digits; the same content gives the same hash on every machine.
        """
        digest = hashlib.sha256()
        digest.update(repr((self.images.shape, self.images.dtype.str, self.class_names)).encode())
        if isinstance(self.images, StreamedImages):
            digest.update(self.images.identity())
        else:
            digest.update(np.ascontiguousarray(self.images).data)
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


def _check_images(name: str, images: np.ndarray | StreamedImages) -> None:
    if len(images.shape) != 4:
        raise InputError(
            f"{name!r} has images of shape {images.shape}; expected (N, H, W, C) with C = 1 or 3"
        )
    if 0 in images.shape:
        raise InputError(f"{name!r} is empty (shape {images.shape}); give at least one image")
    if images.shape[3] not in CHANNELS:
        raise InputError(
            f"{name!r} has {images.shape[3]} channels (shape {images.shape}, read as N, H, W, C); "
            "convert the images to 1 (gray) or 3 (RGB) channels, channels last"
        )
    if isinstance(images, StreamedImages) or images.dtype == np.uint8:
        return
    if not np.issubdtype(images.dtype, np.floating):
        raise InputError(
            f"{name!r} has pixels of type {images.dtype}; use uint8 in 0..255 or floats in [0, 1]"
        )
    low, high = float(images.min()), float(images.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{name!r} has pixels that are NaN or infinite; remove those images")
    if low < 0.0 or high > 1.0:
        raise InputError(
            f"{name!r} has pixels from {low:g} to {high:g}, outside [0, 1]; "
            "undo any mean/std normalization, or divide by 255, or store uint8"
        )


def _check_names(name: str, class_names: tuple[str, ...]) -> None:
    for own in class_names:
        try:
            own.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{name!r} has the class {own!r}, whose name is not UTF-8; rename it"
            ) from error


def _check_labels(name: str, labels: np.ndarray, count: int, num_names: int) -> None:
    if labels.shape != (count,):
        raise InputError(f"{name!r} has {count} images but labels of shape {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{name!r} has labels of type {labels.dtype}; use integers from 0")
    if labels.min() < 0:
        raise InputError(
            f"{name!r} has the label {int(labels.min())}; labels are integers from 0, "
            "so drop the images without a label (often marked -1)"
        )
    if num_names and labels.max() >= num_names:
        raise InputError(
            f"{name!r} has the label {int(labels.max())} but only {num_names} class names; "
            "give one class name per label"
        )
