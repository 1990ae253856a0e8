"""Read a corruption of a folder of CIFAR-10-C."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from robustcl.core.errors import InputError
from robustcl.data.dataset import Dataset
from robustcl.data.stored_array import map_npy, read_npy

PER_SEVERITY = 10_000


def cifar10c_names(folder: Path) -> tuple[str, ...]:
    """List the corruptions in a folder.

    Args:
        folder: With NAME.npy and labels.npy.

    Returns:
        Their names, sorted.

    Raises:
        InputError: When there is none, or no labels.npy.
    """
    names = tuple(sorted(place.stem for place in folder.glob("*.npy") if place.stem != "labels"))
    if not names or not (folder / "labels.npy").is_file():
        raise InputError(
            f"{str(folder)!r} holds no CIFAR-10-C; give the folder with labels.npy and one .npy "
            "file per corruption"
        )
    return names


def cifar10c(folder: Path, name: str, severity: int, clean: Dataset) -> Dataset:
    """Read the corrupted versions of the images of the CIFAR-10 test split.

    Args:
        folder: With NAME.npy, (50000, 32, 32, 3) uint8 by severity, and labels.npy.
        name: The corruption.
        severity: 1 to 5.
        clean: Images of the CIFAR-10 test split, all, the first ones, or those at its `rows`.

    Returns:
        As many corrupted images, in the same order.

    Raises:
        InputError: When the file is absent or of another shape, or the labels are not those of the
            clean images.

    Reference:
        Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
        Perturbations, ICLR 2019.
    """
    if name not in cifar10c_names(folder):
        raise InputError(
            f"{str(folder)!r} has no {name!r}; it has {', '.join(cifar10c_names(folder))}"
        )
    if severity not in (1, 2, 3, 4, 5):
        raise InputError(f"severity {severity!r} is not from 1 to 5")
    stored = map_npy(folder / f"{name}.npy")
    labels = read_npy(folder / "labels.npy")
    begin = (severity - 1) * PER_SEVERITY
    rows = begin + (np.arange(len(clean)) if clean.rows is None else clean.rows)
    if stored.dtype != np.uint8 or stored.ndim != 4 or len(stored) <= int(rows.max()):
        raise InputError(
            f"{name}.npy has shape {stored.shape} of {stored.dtype}; expected uint8 images, "
            f"{PER_SEVERITY} per severity"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(stored):
        raise InputError(
            f"labels.npy in {str(folder)!r} has shape {labels.shape} of {labels.dtype}; expected "
            f"one whole number for each of {len(stored)} images"
        )
    if not np.array_equal(labels[rows], clean.labels):
        raise InputError(
            f"the labels in {str(folder)!r} are not those of {clean.name!r}; give the CIFAR-10 "
            "test split in its own order"
        )
    name = f"{clean.name}/{name}-{severity}"
    return replace(clean, name=name, images=np.array(stored[rows]))
