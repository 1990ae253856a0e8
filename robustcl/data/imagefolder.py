"""Load a folder of image files."""

from itertools import zip_longest
from pathlib import Path

import numpy as np

from robustcl.data.dataset import Dataset
from robustcl.data.splits import Split, check_split, split_rows
from robustcl.data.streamed_images import hold_images
from robustcl.errors import InputError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})


def imagefolder(
    path: str | Path,
    *,
    split: Split = "test",
    size: int | None = None,
    seed: int = 0,
    whole: bool = False,
) -> Dataset:
    """Load PATH/{train,test}/CLASS/FILE, or PATH/CLASS/FILE with a split drawn by seed.

    A folder with images and no class folders is unlabeled: every label is 0 and `labeled` is
    False. Classes are the sorted folder names. Images come one class after the other in turn, so
    that the first few of them hold every class.

    Args:
        path: The folder.
        split: 'train' or 'test'.
        size: Side in pixels: resize the shorter side to it, then crop the center (see `decode`).
        seed: Seed of the 80/20 stratified split where the folder has none of its own.
        whole: Serve all images for both splits instead of drawing one.

    Returns:
        The split as uint8; decoded when asked for where it is large (see `hold_images`).

    Raises:
        InputError: When the folder or the images are missing, or cannot be decoded.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"there is no folder {str(path)!r}; give imagefolder:PATH a folder")
    own = root / check_split(split)
    has_own = own.is_dir()
    if not has_own and any((root / side).is_dir() for side in ("train", "test")):
        raise InputError(f"{str(path)!r} has a train or test folder but no {split!r}; add it")
    files, labels, names = _list(own if has_own else root)
    if not has_own and not whole:
        rows = split_rows(labels, split, seed=seed)
        files, labels = [files[row] for row in rows], labels[rows]
    images = hold_images(
        lambda rows: [files[row] for row in rows.tolist()],
        np.arange(len(files)),
        names=lambda row: files[row].name,
        size=size,
    )
    return Dataset(f"imagefolder/{root.name}/{split}", images, labels, names, labeled=bool(names))


def _list(folder: Path) -> tuple[list[Path], np.ndarray, tuple[str, ...]]:
    # The classes take turns, so that the first few files hold every class.
    classes = sorted(child for child in folder.iterdir() if child.is_dir())
    found = [(child, _images(child)) for child in classes]
    groups = [files for _, files in found if files]
    classes = [child for child, files in found if files]
    if not groups:
        files = _images(folder)
        if not files:
            raise InputError(
                f"{str(folder)!r} holds no images; expected CLASS/FILE with one of "
                f"{', '.join(sorted(EXTENSIONS))}"
            )
        return files, np.zeros(len(files), dtype=np.int64), ()
    turns = [
        (file, label)
        for turn in zip_longest(*groups)
        for label, file in enumerate(turn)
        if file is not None
    ]
    labels = np.array([label for _, label in turns], dtype=np.int64)
    return [file for file, _ in turns], labels, tuple(child.name for child in classes)


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in EXTENSIONS)
