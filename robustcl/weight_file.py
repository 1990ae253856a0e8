"""Read the tensors of a stranger's weight file, without running code."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from robustcl.errors import CheckpointError
from robustcl.stored_file import has_description, read_stored

WRAPPERS = ("state_dict", "model", "model_state_dict", "net")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read tensors from a .safetensors file, or a .pt or .pth with `weights_only=True`.

    A flipped bit is found where the file has a checksum: in checkpoints of robustcl, and in .pt
    and .pth files in the form of a zip archive, which torch itself does not check. In other files
    it is found where it makes the file unreadable or a number infinite, and not otherwise.

    Args:
        path: The file.

    Returns:
        Tensors by key.

    Raises:
        CheckpointError: When the file is missing or damaged, needs unpickling, or has no tensors.
    """
    place = Path(path)
    if not place.is_file():
        raise CheckpointError(f"there is no weight file {str(place)!r}; check the path")
    try:
        if place.suffix == ".safetensors":
            return read_stored(place).tensors if is_checkpoint(place) else load_file(place)
        _check_archive(place)
        content: Any = torch.load(place, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{str(place)!r} holds more than tensors and would run code when loaded; where you "
            "trust it, save its state_dict() alone, or as .safetensors"
        ) from error
    except Exception as error:  # damaged files make torch's readers fail in many ways
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{str(place)!r} is damaged or no weight file ({reason})") from error
    return _tensors(content, place)


def is_checkpoint(path: str | Path) -> bool:
    """Tell whether a weight file is a checkpoint of robustcl.

    Args:
        path: The file.

    Returns:
        Whether it has a description.
    """
    place = Path(path)
    return place.suffix == ".safetensors" and has_description(place)


def _tensors(content: Any, place: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping) and any(
        isinstance(content.get(key), Mapping) for key in WRAPPERS
    ):
        content = next(content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping))
    entries = content if isinstance(content, Mapping) else {}
    found = {str(key): value for key, value in entries.items() if isinstance(value, Tensor)}
    if found:
        return found
    within = [str(key) for key, value in entries.items() if _holds_tensors(value)]
    if within:
        raise CheckpointError(
            f"{str(place)!r} holds no tensors by name itself, but its entries {within} do; save "
            "the one that is the encoder"
        )
    raise CheckpointError(f"{str(place)!r} holds no tensors by name; save a state_dict()")


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds_tensors(part) for part in value)
    return isinstance(value, Mapping) and any(isinstance(part, Tensor) for part in value.values())


def _check_archive(place: Path) -> None:
    if not zipfile.is_zipfile(place):
        return
    with zipfile.ZipFile(place) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(
            f"{str(place)!r} is damaged: {damaged!r} does not have its checksum; copy it again, or "
            "save it again where it was written without checksums"
        )
