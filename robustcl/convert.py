"""Bring in the weights of a stranger's encoder."""

import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from robustcl.errors import CheckpointError

PREFIXES = (
    *("module.", "backbone.", "encoder.", "encoder_q.", "online_encoder.", "model.", "net.", "f."),
    "_orig_mod.",
)
HEADS = ("fc.", "classifier.", "head.", "heads.", "projector.", "projection_head.", "predictor.")
WRAPPERS = ("state_dict", "model", "model_state_dict", "net")


@dataclass(frozen=True)
class Placement:
    """Report where the keys of a weight file went.

    Args:
        placed: Number of tensors that were loaded.
        missing: Tensors of the network that the file lacks or has in another shape.
        dropped: Keys of the file that belong to a head, which is not taken over.
        unplaced: Other keys of the file that fit nowhere.
    """

    placed: int
    missing: tuple[str, ...]
    dropped: tuple[str, ...]
    unplaced: tuple[str, ...]


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read tensors from a .safetensors file, or a .pt or .pth with `weights_only=True`.

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
            return load_file(place)
        content: Any = torch.load(place, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{str(place)!r} holds more than tensors and would run code when loaded; where you "
            "trust it, save its state_dict() alone, or as .safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{str(place)!r} is damaged or no weight file ({error})") from error
    while isinstance(content, Mapping) and any(
        isinstance(content.get(key), Mapping) for key in WRAPPERS
    ):
        content = next(content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping))
    tensors = content.items() if isinstance(content, Mapping) else ()
    found = {str(key): value for key, value in tensors if isinstance(value, Tensor)}
    if not found:
        raise CheckpointError(f"{str(place)!r} holds no tensors by name; save a state_dict()")
    return found


def place_weights(
    network: nn.Module, weights: Mapping[str, Tensor], *, allow_partial: bool = False
) -> Placement:
    """Load weights into a network, stripping prefixes such as `module.` and `backbone.`.

    Args:
        network: Receives the weights.
        weights: Tensors by key.
        allow_partial: Whether to go on where a tensor is missing or a key fits nowhere.

    Returns:
        The placement. Keys of a head (fc., projector., ...) are dropped and reported.

    Raises:
        CheckpointError: When something is missing or left over and `allow_partial` is off, or
            nothing fits, or two keys fit the same place, as with a teacher and a student.
    """
    wanted = network.state_dict()
    named = {key: _strip(key, wanted) for key in weights}
    claims = [name for name in named.values() if name in wanted]
    twice = sorted({name for name in claims if claims.count(name) > 1})
    if twice:
        keys = ", ".join(key for key, name in named.items() if name == twice[0])
        raise CheckpointError(
            f"{len(twice)} tensors have two candidates each ({keys}); keep one network in the file"
        )
    placed = {
        name: weights[key]
        for key, name in named.items()
        if name in wanted and wanted[name].shape == weights[key].shape
    }
    optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    missing = tuple(name for name in wanted if name not in placed and name not in optional)
    rest = [key for key, name in named.items() if name not in placed]
    dropped = tuple(key for key in rest if _is_head(key))
    unplaced = tuple(key for key in rest if not _is_head(key))
    problem = _problem(missing, unplaced, len(wanted))
    if not placed or (problem and not allow_partial):
        raise CheckpointError(
            f"{problem or 'no key fits'}; choose the right --arch, or add --allow-partial"
        )
    network.load_state_dict(placed, strict=False)
    return Placement(len(placed), missing, dropped, unplaced)


def _strip(key: str, wanted: Iterable[str]) -> str:
    known = set(wanted)
    name = key
    while name not in known:
        prefix = next((p for p in PREFIXES if name.startswith(p)), None)
        if prefix is None:
            return name
        name = name.removeprefix(prefix)
    return name


def _is_head(key: str) -> bool:
    return any(f".{key}".find(f".{head}") >= 0 for head in HEADS)


def _problem(missing: tuple[str, ...], unplaced: tuple[str, ...], total: int) -> str:
    parts = []
    if missing:
        parts.append(f"{len(missing)} of {total} tensors are missing ({_some(missing)})")
    if unplaced:
        parts.append(f"{len(unplaced)} keys fit nowhere ({_some(unplaced)})")
    return "; ".join(parts)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
