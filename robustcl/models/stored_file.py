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

from robustcl.core import atomic
from robustcl.core.errors import CheckpointError
from robustcl.core.files import objection_to_file, parse_json
from robustcl.core.hashes import checksum
from robustcl.core.tensor_header import MOST_HEADER, PREAMBLE, order_metadata, read_header

_SCHEMA = 1
DESCRIPTION_KEY = "robustcl"
STORED_CHECKSUM = "robustcl_sha256"
PROMISE = "checksum"  # entry of the description that says that there is one
_KIND = "sha256"
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_REASON = 300  # signs of a library's error


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
    text = json.dumps({"schema": _SCHEMA, PROMISE: _KIND, **entries})
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    metadata = {DESCRIPTION_KEY: text, STORED_CHECKSUM: checksum(text, copies)}
    write_tensors(path, copies, metadata)


def content_hash(entries: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hash a description and tensors as they would be written.

    Args:
        entries: The description's entries; the version that writes them does not count.
        tensors: By name.

    Returns:
        64 hexadecimal digits.
    """
    text = json.dumps({**entries, "version": ""}, sort_keys=True)
    return checksum(text, {name: value.detach().cpu() for name, value in tensors.items()})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors whole; equal ones give equal bytes.

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
        order_metadata(temporary)


def read_stored(place: Path) -> Stored:
    """Read a file and check its checksum, where it has one.

    Args:
        place: The file.

    Returns:
        What it holds.

    Raises:
        CheckpointError: When the file is missing, damaged, a pickle, foreign or of another schema.
    """
    try:
        metadata = read_header(place).metadata
        content = place.read_bytes()
        tensors = load(content)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(_unreadable(place, error)) from error
    if DESCRIPTION_KEY not in metadata:
        raise CheckpointError(
            f"{str(place)!r} has no robustcl description; bring its weights in by: robustcl convert"
        )
    verified = STORED_CHECKSUM in metadata
    if verified and checksum(metadata[DESCRIPTION_KEY], tensors) != metadata[STORED_CHECKSUM]:
        raise CheckpointError(_changed(place))
    try:
        entries = parse_json(metadata[DESCRIPTION_KEY])
    except ValueError as error:
        raise CheckpointError(
            f"{str(place)!r} has an unreadable description (it {error}); copy or train it again"
        ) from error
    if not isinstance(entries, dict):
        raise CheckpointError(
            f"{str(place)!r} has a description that is no table; copy or train it again"
        )
    schema, promised = entries.pop("schema", None), entries.pop(PROMISE, None)
    if promised not in (None, _KIND):
        raise CheckpointError(
            f"{str(place)!r} has a checksum of kind {str(promised)[:60]!r}; this version knows "
            f"{_KIND!r}: update robustcl"
        )
    if promised is not None and not verified:
        raise CheckpointError(_changed(place))
    if type(schema) is not int or schema != _SCHEMA:
        raise CheckpointError(
            f"{str(place)!r} has schema {str(schema)[:60]!r}; this version reads {_SCHEMA}"
        )
    return Stored(entries, tensors, hashlib.sha256(content).hexdigest(), verified)


def file_hash(place: Path) -> str:
    """Hash a file, as `read_stored` does.

    Args:
        place: The file.

    Returns:
        SHA-256 in hexadecimal digits.
    """
    return hashlib.sha256(place.read_bytes()).hexdigest()


def has_description(place: Path) -> bool:
    """Tell whether a .safetensors file is a checkpoint of robustcl, damaged or not.

    Args:
        place: The file.

    Returns:
        Whether its header names a description.
    """
    return header_names(place, DESCRIPTION_KEY) or header_names(place, STORED_CHECKSUM)


def header_names(place: Path, key: str) -> bool:
    """Tell whether the header of a .safetensors file has a key.

    Args:
        place: The file, an ordinary one.
        key: The key.

    Returns:
        Whether it stands there.
    """
    try:
        with place.open("rb") as stream:
            length = int.from_bytes(stream.read(PREAMBLE), "little")
            header = stream.read(min(length, MOST_HEADER, place.stat().st_size))
    except OSError:
        return False
    return f'"{key}"'.encode() in header


def _changed(place: Path) -> str:
    return (
        f"{str(place)!r} is damaged: its weights and description do not have the checksum that "
        "was written with them; copy or train it again"
    )


def _unreadable(place: Path, error: Exception) -> str:
    if not place.exists():
        return f"there is no checkpoint {str(place)!r}; check the path"
    if objection_to_file(place) is None and _begins_as_pickle(place):
        return (
            f"{str(place)!r} is a pickle (torch.save), which can run code and is not loaded; "
            "bring its weights in by: robustcl convert WEIGHTS --arch ARCH --out CKPT"
        )
    reason = " ".join(str(error).split())[:_REASON]
    if type(error) is ValueError:  # the header's fault, in words that follow the file's name
        return f"{str(place)!r} {reason}; copy or train it again"
    return f"{str(place)!r} is damaged or cut off ({reason}); copy or train it again"


def _begins_as_pickle(place: Path) -> bool:
    # A sound file may begin with the same bytes by chance: this is asked of unsound ones.
    try:
        with place.open("rb") as stream:
            return stream.read(PREAMBLE).startswith(PICKLES)
    except OSError:
        return False
