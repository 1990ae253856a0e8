"""Load arrays saved by numpy."""

from pathlib import Path

import numpy as np

from robustcl.core.choices import SPLITS, Split
from robustcl.core.errors import InputError
from robustcl.core.files import is_folder, require_file
from robustcl.data.class_names import some_names
from robustcl.data.dataset import Dataset
from robustcl.data.listing import Listing, part_of
from robustcl.data.read_labels import as_texts, read_labels
from robustcl.data.splits import check_split, split_rows
from robustcl.data.stored_array import read_npz


def npz(path: str | Path, *, split: Split = "test", seed: int = 0, whole: bool = False) -> Dataset:
    """Load PATH/{train,test}.npz, or one file, with the arrays `images` and `labels`.

    A file called train.npz or test.npz serves that split only; any other single file is split
    80/20 by seed, stratified. Pickled objects are refused. An array `class_names` of strings is
    optional; labels may be names themselves. Labels of -1 throughout mean that there are none.

    Args:
        path: A folder or a file; images are (N, H, W, C), (N, C, H, W) or (N, H, W), uint8 or
            floating in [0, 1].
        split: 'train' or 'test'.
        seed: Seed of the split of a single file.
        whole: Serve all images of a single file for both splits instead of drawing one.

    Returns:
        The split, in its stored precision up to float32.

    Raises:
        InputError: When the file or an array is missing, or is not what it should be.
    """
    return list_npz(path, split=split, seed=seed, whole=whole).dataset()


def list_npz(path: str | Path, *, split: Split, seed: int, whole: bool) -> Listing:
    """List what `npz` loads.

    Args:
        path: A folder or a file.
        split: 'train' or 'test'.
        seed: Seed of a split that is drawn.
        whole: Serve all images of a single file for both splits.

    Returns:
        The listing, with all images in memory.

    Raises:
        InputError: When the file or an array is missing, or is not what it should be.
    """
    given = Path(path)
    file = given / f"{check_split(split)}.npz" if is_folder(given) else given
    require_file(file, cure="give npz:PATH a file, or a folder with train.npz and test.npz")
    named = file.stem if file.stem in SPLITS else None
    if named not in (None, split):
        raise InputError(f"{file.name!r} has no {split!r} split; give the folder that has both")
    images, stored, names = _read(file)
    if images.ndim == 0 or stored.shape != images.shape[:1]:
        raise InputError(
            f"{str(file)!r} has images of shape {images.shape} and labels of shape {stored.shape}; "
            "expected (N, ...) and (N,)"
        )
    labels, names, labeled = read_labels(stored, names, what=str(file))
    listing = Listing(
        name=f"npz/{given.stem}/{split}",
        labels=labels,
        class_names=names,
        load=lambda rows: _channels_last(images[rows]),
        labeled=labeled,
    )
    if named is not None or whole:
        return listing
    return part_of(listing, split_rows(np.maximum(labels, 0), split, seed=seed))


def _read(file: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    arrays, there = read_npz(file, ("images", "labels", "class_names"))
    missing = [name for name in ("images", "labels") if name not in arrays]
    if missing:
        raise InputError(
            f"{str(file)!r} has the arrays {some_names(there) or 'none'} and lacks "
            f"{' and '.join(missing)}; save it by np.savez(path, images=..., labels=...)"
        )
    names = arrays.get("class_names", np.array([], str))
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise InputError(
            f"{str(file)!r} has class_names of shape {names.shape} and type {names.dtype}; "
            "save one string per class"
        )
    return arrays["images"], arrays["labels"], as_texts(names, what=str(file))


def _channels_last(images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[..., None]
    if images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        return np.transpose(images, (0, 2, 3, 1))
    return images
