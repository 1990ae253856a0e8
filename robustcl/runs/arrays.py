"""Write and read the arrays of a run folder, which figures need besides the records."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def save_arrays(folder: Path, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays/NAME.npz so that the file is either the old one or the new one.

    Args:
        folder: The run folder.
        name: 'embeddings', 'triples', 'flagged', or 'curves-' and the attack.
        arrays: The arrays.
    """
    place = folder / "arrays" / f"{name}.npz"
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{name}.{os.getpid()}.npz")
    np.savez_compressed(temporary, **dict(arrays))  # pyright: ignore[reportArgumentType]
    temporary.replace(place)


def load_arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Read arrays/NAME.npz.

    Args:
        folder: The run folder.
        name: As in `save_arrays`.

    Returns:
        The arrays; empty when the file is absent.
    """
    place = folder / "arrays" / f"{name}.npz"
    if not place.is_file():
        return {}
    with np.load(place, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}
