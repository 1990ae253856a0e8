"""Read class vectors from a .npy file."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustcl.core.errors import InputError
from robustcl.data.stored_array import read_npy


def npy_vectors(path: str | Path, num_classes: int) -> Tensor:
    """Read one vector per class, in the order of the classes. Nothing is unpickled.

    Args:
        path: The file, an array (K, D).
        num_classes: K.

    Returns:
        (K, D) in float64.

    Raises:
        InputError: When the file is missing or unreadable, or its array does not fit.
    """
    array = read_npy(Path(path))
    if array.ndim != 2 or len(array) != num_classes:
        raise InputError(
            f"{str(path)!r} has shape {array.shape}; expected one row per class, ({num_classes}, D)"
        )
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise InputError(f"{str(path)!r} has values that are not finite real numbers; mend them")
    return torch.from_numpy(array.astype(np.float64))
