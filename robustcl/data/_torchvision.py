"""Load the data sets that torchvision downloads."""

from pathlib import Path
from typing import Any

import numpy as np

from robustcl.core.choices import Split
from robustcl.core.errors import InputError
from robustcl.core.files import is_folder, open_file
from robustcl.data.dataset import Dataset
from robustcl.data.listing import Listing
from robustcl.data.splits import check_split

_MOST_BYTES = 2**28  # of a file without a checksum
DIGIT_NAMES = tuple(str(digit) for digit in range(10))
# name -> (class in torchvision.datasets, takes train=bool rather than split=str)
TORCHVISION: dict[str, tuple[str, bool]] = {
    "cifar10": ("CIFAR10", True),
    "cifar100": ("CIFAR100", True),
    "mnist": ("MNIST", True),
    "fashion-mnist": ("FashionMNIST", True),
    "svhn": ("SVHN", False),
    "stl10": ("STL10", False),
}


def torchvision_data(
    name: str,
    *,
    split: Split = "test",
    root: str | Path | None = None,
    download: bool = False,
) -> Dataset:
    """Load one of torchvision's data sets into memory.

    Args:
        name: cifar10, cifar100, mnist, fashion-mnist, svhn or stl10.
        split: 'train' or 'test'; the data set's own split.
        root: Folder of the files; `~/.cache/robustcl` by default.
        download: Whether to download what is missing.

    Returns:
        The split as uint8.

    Raises:
        InputError: When the name is unknown, or the files are missing or damaged.
    """
    return list_torchvision(name, split=split, root=root, download=download).dataset()


def list_torchvision(
    name: str, *, split: Split, root: str | Path | None, download: bool
) -> Listing:
    """List what `torchvision_data` loads.

    Args:
        name: A key of `TORCHVISION`.
        split: 'train' or 'test'.
        root: Folder of the files; `~/.cache/robustcl` where None.
        download: Whether to download what is missing.

    Returns:
        The listing, with all images in memory.

    Raises:
        InputError: When the name is unknown, or the files are missing or damaged.
        MemoryError: When memory runs out all the same.
    """
    if name not in TORCHVISION:
        raise InputError(f"unknown data set {name!r}; torchvision offers {', '.join(TORCHVISION)}")
    from torchvision import datasets  # slow to import, so only when it is needed

    class_name, takes_train = TORCHVISION[name]
    folder = Path(root) if root is not None else Path.home() / ".cache" / "robustcl"
    side: dict[str, Any] = {"split": check_split(split)}
    if takes_train:
        side = {"train": split == "train"}
    _refuse_large(folder / class_name / "raw")
    try:
        source = getattr(datasets, class_name)(root=str(folder), download=download, **side)
        labels = np.asarray(source.labels if name in ("svhn", "stl10") else source.targets)
        images = np.asarray(source.data)
    except MemoryError:
        raise
    except Exception as error:  # damaged files of those without a checksum raise a dozen kinds
        raise InputError(
            f"{name} is not complete in {str(folder)!r} ({str(error) or type(error).__name__}); "
            "allow the download, or point root at the folder that holds it"
        ) from error
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1] or images.ndim < 3:
        raise InputError(
            f"{name} in {str(folder)!r} has images of shape {images.shape} and labels of shape "
            f"{labels.shape} and type {labels.dtype}; remove the files, and allow the download"
        )
    return Listing(
        name=f"{name}/{split}",
        labels=labels.astype(np.int64),
        class_names=tuple(getattr(source, "classes", DIGIT_NAMES)),
        load=lambda rows: _channels_last(images[rows]),
    )


def _refuse_large(folder: Path) -> None:
    # Files of MNIST have no checksum, and are read whole.
    for place in folder.glob("*") if is_folder(folder) else ():
        if not is_folder(place):
            with open_file(place, cure="remove it, and allow the download") as stream:
                if stream.seek(0, 2) > _MOST_BYTES:
                    raise InputError(
                        f"{str(place)!r} has more than {_MOST_BYTES:,} bytes, so it is no file of "
                        "this data set; remove it, and allow the download"
                    )


def _channels_last(images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[..., None]
    return images if images.shape[3] == 3 else np.transpose(images, (0, 2, 3, 1))
