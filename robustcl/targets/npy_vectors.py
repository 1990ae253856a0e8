"""Read class vectors from a .npy file."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustcl.errors import InputError


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
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read as .npy numbers ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or len(array) != num_classes:
        shape = getattr(array, "shape", None)
        raise InputError(
            f"{str(path)!r} has shape {shape}; expected one row per class, ({num_classes}, D)"
        )
    if not np.issubdtype(array.dtype, np.number) or not np.isfinite(array).all():
        raise InputError(f"{str(path)!r} has values that are not finite numbers")
    return torch.from_numpy(array.astype(np.float64))
