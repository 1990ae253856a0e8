"""Write and read the arrays of a run folder, which figures need besides the records."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from robustcl.runs.ranks import rank


def save_arrays(
    folder: Path, name: str, arrays: Mapping[str, np.ndarray], *, compress: bool = True
) -> None:
    """Write arrays/NAME.npz so that the file is either the old one or the new one.

    Args:
        folder: The run folder.
        name: 'embeddings', 'triples', 'flagged', or 'curves-' and the attack.
        arrays: The arrays. `index`, where there is one, says of which images; the others then
            have a row per image, unless `load_arrays` is told otherwise.
        compress: Whether to compress them, which shortens pictures but hardly embeddings.
    """
    place = _place(folder, name, rank())
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{name}.{rank()}.{os.getpid()}.npz")
    save = np.savez_compressed if compress else np.savez
    save(temporary, **dict(arrays))  # pyright: ignore[reportArgumentType]
    temporary.replace(place)


def own_arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Read what this process has written to arrays/NAME.npz.

    Args:
        folder: The run folder.
        name: As in `save_arrays`.

    Returns:
        The arrays; empty when the file is absent.
    """
    return _read(_place(folder, name, rank()))


def load_arrays(folder: Path, name: str, *, shared: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Read arrays/NAME.npz of all processes.

    Args:
        folder: The run folder.
        name: As in `save_arrays`.
        shared: Arrays that are not about single images; all processes have the same.

    Returns:
        The arrays, one row per image, ascending by index; empty when there is no file.
    """
    arrays = every_row(folder, name, shared=shared)
    if "index" not in arrays:
        return arrays
    _, rows = np.unique(arrays["index"], return_index=True)
    return {key: value if key in shared else value[rows] for key, value in arrays.items()}


def every_row(folder: Path, name: str, *, shared: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Read arrays/NAME.npz of all processes as it is.

    Args:
        folder: The run folder.
        name: As in `save_arrays`.
        shared: Arrays that are not about single images.

    Returns:
        The arrays; an image that several processes have, for a batch went from one to another, has
        several rows.
    """
    places = [_place(folder, name, 0), *sorted(folder.glob(f"arrays/{name}.[0-9]*.npz"))]
    parts = [part for part in map(_read, places) if part]
    if not parts:
        return {}
    return {
        key: value if key in shared else np.concatenate([part[key] for part in parts])
        for key, value in parts[0].items()
    }


def replace_rows(
    kept: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Put rows in the place of older ones about the same images.

    Args:
        kept: Arrays with a row per image, and their `index`; may be empty.
        new: The same, of other or the same images.

    Returns:
        Both, without the older rows.
    """
    if not kept:
        return dict(new)
    stay = ~np.isin(kept["index"], new["index"])
    return {key: np.concatenate([kept[key][stay], new[key]]) for key in new}


def _place(folder: Path, name: str, number: int) -> Path:
    return folder / "arrays" / (f"{name}.{number}.npz" if number else f"{name}.npz")


def _read(place: Path) -> dict[str, np.ndarray]:
    if not place.is_file():
        return {}
    with np.load(place, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}
