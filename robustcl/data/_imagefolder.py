"""Load a folder of image files."""

from itertools import zip_longest
from pathlib import Path

import numpy as np

from robustcl.core.choices import Split
from robustcl.core.errors import InputError
from robustcl.core.files import is_folder
from robustcl.data.class_folders import class_folders, split_folder
from robustcl.data.dataset import Dataset
from robustcl.data.listing import Listing, part_of
from robustcl.data.splits import check_split, split_rows
from robustcl.data.streamed_images import hold_images


def imagefolder(
    path: str | Path,
    *,
    split: Split = "test",
    size: int | None = None,
    seed: int = 0,
    whole: bool = False,
) -> Dataset:
    """Load PATH/{train,test}/CLASS/FILE, or PATH/CLASS/FILE with a split drawn by seed.

    A folder with images and no class folders is unlabeled: every label is -1 and `labeled` is
    False. Classes are the sorted folder names; hidden files and what file systems leave behind are
    left out (see `class_folders`). Images come one class after the other in turn, so that the first
    few of them hold every class.

    Args:
        path: The folder.
        split: 'train' or 'test'.
        size: Side in pixels: resize the shorter side to it, then crop the center (see `decode`).
        seed: Seed of the 80/20 stratified split where the folder has none of its own.
        whole: Serve all images for both splits instead of drawing one.

    Returns:
        The split as uint8; decoded when asked for where it is large (see `hold_images`).

    Raises:
        InputError: When the folder or the images are missing, or cannot be read or decoded.
    """
    return list_imagefolder(path, split=split, size=size, seed=seed, whole=whole).dataset()


def list_imagefolder(
    path: str | Path, *, split: Split, size: int | None, seed: int, whole: bool
) -> Listing:
    """List what `imagefolder` loads.

    Args:
        path: The folder.
        split: 'train' or 'test'.
        size: Side in pixels; None for none.
        seed: Seed of a split that is drawn.
        whole: Serve all images for both splits.

    Returns:
        The listing.

    Raises:
        InputError: When the folder is missing, holds no images or no classes, or cannot be read.
    """
    root = Path(path)
    if not is_folder(root):
        raise InputError(f"there is no folder {str(path)!r}; give imagefolder:PATH a folder")
    own = split_folder(root, check_split(split))
    found = class_folders(root if own is None else own)
    files, labels = _in_turn([images for _, images in found.classes])
    if not found.classes:
        files, labels = list(found.images), np.full(len(found.images), -1, dtype=np.int64)
    listing = Listing(
        name=f"imagefolder/{root.name}/{split}",
        labels=labels,
        class_names=tuple(name for name, _ in found.classes),
        load=lambda rows: hold_images(
            lambda some: [files[row] for row in some.tolist()],
            rows,
            names=lambda row: files[row].relative_to(root).as_posix(),
            size=size,
        ),
        labeled=bool(found.classes),
        notes=found.notes,
    )
    if own is not None or whole:
        return listing
    return part_of(listing, split_rows(np.maximum(labels, 0), split, seed=seed))


def _in_turn(groups: list[tuple[Path, ...]]) -> tuple[list[Path], np.ndarray]:
    # The classes take turns, so that the first few files hold every class.
    turns = [
        (file, label)
        for turn in zip_longest(*groups)
        for label, file in enumerate(turn)
        if file is not None
    ]
    return [file for file, _ in turns], np.array([label for _, label in turns], dtype=np.int64)
