"""Read and write the file of a checkpoint: tensors, a description in JSON, and their checksum."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from robustcl.checksum import checksum
from robustcl.core import atomic
from robustcl.errors import CheckpointError

SCHEMA = 1
KEY = "robustcl"
CHECKSUM = "robustcl_sha256"
PROMISE = "checksum"  # entry of the description that says that there is one
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
PREAMBLE = 8  # bytes that hold the length of the header
LONGEST_HEADER = 100_000_000  # bytes, as the format allows


@dataclass(frozen=True, eq=False)
class Stored:
    """Hold what a file gave, before anything is built from it.

    Args:
        entries: The description's entries.
        tensors: By name.
        hash: SHA-256 of the file.
        verified: Whether the file has a checksum, which then was right.
    """

    entries: dict[str, Any]
    tensors: dict[str, Tensor]
    hash: str
    verified: bool


def write_stored(path: Path, entries: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a file; it is either the old one or the new one.

    The schema stays 1: the checksum is one more entry of the header, which readers that do not
    know it leave aside, and they take the same description and tensors from the file. The checksum
    finds damage. It is no signature: whoever changes a file on purpose can change it too.

    Args:
        path: The file.
        entries: The description's entries.
        tensors: By name.
    """
    text = json.dumps({"schema": SCHEMA, PROMISE: "sha256", **entries})
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    metadata = {KEY: text, CHECKSUM: checksum(text, copies)}
    write_tensors(path, copies, metadata)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors whole.

    Args:
        path: The file.
        tensors: By name, contiguous on the CPU and without shared memory.
        metadata: Of the header.

    Raises:
        OSError: When the disk is full or fails.
        SafetensorError: When something else is wrong.
    """
    with atomic.replacing(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=dict(metadata))
        except SafetensorError as error:  # which it makes of what the system says
            number = re.search(r"\(os error (\d+)\)", str(error))
            if number is None:
                raise
            code = int(number[1])
            raise OSError(code, os.strerror(code), str(path)) from error


def read_stored(place: Path) -> Stored:
    """Read a file and check its checksum, where it has one.

    Args:
        place: The file.

    Returns:
        What it holds.

    Raises:
        CheckpointError: When the file is missing, damaged, a pickle, foreign or of another schema.
    """
    if not place.is_file():
        raise CheckpointError(f"there is no checkpoint {str(place)!r}; check the path")
    content = place.read_bytes()
    try:
        tensors = load(content)
        length = int.from_bytes(content[:PREAMBLE], "little")
        header = json.loads(content[PREAMBLE : PREAMBLE + length])
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(_unreadable(place, content, error)) from error
    metadata = header.get("__metadata__") or {}
    if KEY not in metadata:
        raise CheckpointError(
            f"{str(place)!r} has no robustcl description; bring its weights in by: robustcl convert"
        )
    verified = CHECKSUM in metadata
    if verified and checksum(metadata[KEY], tensors) != metadata[CHECKSUM]:
        raise CheckpointError(_changed(place))
    try:
        entries = json.loads(metadata[KEY])
        schema, promised = entries.pop("schema"), entries.pop(PROMISE, None)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{str(place)!r} has an unreadable description ({error})") from error
    if promised is not None and not verified:
        raise CheckpointError(_changed(place))
    if schema != SCHEMA:
        raise CheckpointError(f"{str(place)!r} has schema {schema!r}; this version reads {SCHEMA}")
    return Stored(entries, tensors, hashlib.sha256(content).hexdigest(), verified)


def has_description(place: Path) -> bool:
    """Tell whether a .safetensors file is a checkpoint of robustcl, damaged or not.

    Args:
        place: The file.

    Returns:
        Whether its header names a description.
    """
    return header_names(place, KEY) or header_names(place, CHECKSUM)


def header_names(place: Path, key: str) -> bool:
    """Tell whether the header of a .safetensors file has a key.

    Args:
        place: The file, an ordinary one.
        key: The key.

    Returns:
        Whether it stands there.
    """
    with place.open("rb") as stream:
        length = int.from_bytes(stream.read(PREAMBLE), "little")
        header = stream.read(min(length, place.stat().st_size, LONGEST_HEADER))
    return f'"{key}"'.encode() in header


def _changed(place: Path) -> str:
    return (
        f"{str(place)!r} is damaged: its weights and description do not have the checksum that "
        "was written with them; copy or train it again"
    )


def _unreadable(place: Path, content: bytes, error: Exception) -> str:
    if content.startswith(PICKLES):  # a sound file may begin with the same bytes by chance
        return (
            f"{str(place)!r} is a pickle (torch.save), which can run code and is not loaded; "
            "bring its weights in by: robustcl convert WEIGHTS --arch ARCH --out CKPT"
        )
    return f"{str(place)!r} is damaged or cut off ({error}); copy or train it again"
