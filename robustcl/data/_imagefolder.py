"""Load a folder of image files."""

from itertools import zip_longest
from pathlib import Path

import numpy as np

from robustcl.core.choices import Split
from robustcl.core.errors import InputError
from robustcl.core.files import is_folder
from robustcl.data.class_folders import class_folders, split_folder
from robustcl.data.dataset import Dataset
from robustcl.data.label_files import find_table, labels_of
from robustcl.data.listing import Listing, part_of
from robustcl.data.read_labels import read_labels
from robustcl.data.splits import check_split, split_rows
from robustcl.data.streamed_images import hold_images
from robustcl.data.transform import ImageTransform, square


def imagefolder(
    path: str | Path,
    *,
    split: Split = "test",
    size: int | None = None,
    seed: int = 0,
    whole: bool = False,
) -> Dataset:
    """Load PATH/{train,test}/CLASS/FILE, or PATH/CLASS/FILE with a split drawn by seed.

    Splits may have other usual names: training, val, validation, in any case of letters. A folder
    with images and no class folders has the labels of a table beside them (see `label_files`), or
    is unlabeled: every label is -1 and `labeled` is False. Classes are the sorted folder names;
    hidden files and what file systems leave behind are left out (see `class_folders`). Images come
    one class after the other in turn, so that the first few of them hold every class.

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
    return list_imagefolder(
        path, split=split, transform=square(size), seed=seed, whole=whole
    ).dataset()


def list_imagefolder(
    path: str | Path,
    *,
    split: Split,
    transform: ImageTransform,
    seed: int,
    whole: bool,
    strict: bool = True,
    labels: str | None = None,
) -> Listing:
    """List what `imagefolder` loads.

    Args:
        path: The folder.
        split: 'train' or 'test'.
        transform: What is done to each image.
        seed: Seed of a split that is drawn.
        whole: Serve all images for both splits.
        strict: Whether a file that cannot be decoded is refused, or left out.
        labels: A table of the labels of a flat folder, in the folder or by its path; by default one
            is looked for.

    Returns:
        The listing.

    Raises:
        InputError: When the folder is missing, holds no images or no classes, or cannot be read.
    """
    root = Path(path)
    if not is_folder(root):
        raise InputError(f"there is no folder {str(path)!r}; give imagefolder:PATH a folder")
    own, told = (None, "") if whole else split_folder(root, check_split(split))
    folder = root if own is None else own
    found = class_folders(folder)
    names, notes = tuple(name for name, _ in found.classes), found.notes
    files, numbers = _in_turn([images for _, images in found.classes])
    if not found.classes:
        files, numbers = list(found.images), np.full(len(found.images), -1, dtype=np.int64)
        table = find_table(folder, files, labels)
        if table is not None:
            files, texts, said = labels_of(files, table)
            numbers, names, _ = read_labels(_as_stored(texts), (), what=str(table))
            notes = (*notes, *said)
    elif labels is not None:
        raise InputError(f"labels={labels} with class folders in {str(folder)!r}; leave one out")
    labeled = bool(len(numbers)) and int(numbers.min()) >= 0
    listing = Listing(
        name=f"imagefolder/{root.name}/{split}",
        labels=numbers,
        class_names=names,
        load=lambda rows: hold_images(
            lambda some: [files[row] for row in some.tolist()],
            rows,
            names=lambda row: files[row].relative_to(root).as_posix(),
            transform=transform,
            strict=strict,
        ),
        labeled=labeled,
        notes=(*((told,) if told else ()), *notes),
    )
    if own is not None or whole:
        return listing
    return part_of(listing, split_rows(np.maximum(numbers, 0), split, seed=seed))


def _as_stored(texts: list[str]) -> np.ndarray:
    # Numbers from 0 are positions; other texts are names.
    if all(text.isascii() and text.isdecimal() for text in texts):
        return np.array([int(text) for text in texts], dtype=np.int64)
    return np.array(texts, dtype=object)


def _in_turn(groups: list[tuple[Path, ...]]) -> tuple[list[Path], np.ndarray]:
    # The classes take turns, so that the first few files hold every class.
    turns = [
        (file, label)
        for turn in zip_longest(*groups)
        for label, file in enumerate(turn)
        if file is not None
    ]
    return [file for file, _ in turns], np.array([label for _, label in turns], dtype=np.int64)
