"""Read the header of a safetensors file: what it claims is checked before anything is allocated."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from robustcl.core.files import objection_to_file, parse_json
from robustcl.core.schema import objection_to

PREAMBLE = 8  # bytes that hold the length of the header
MOST_HEADER = 16_000_000  # bytes; a tensor takes about a hundred
METADATA = "__metadata__"
# What torch has a type for and our code treats. Types of four and six bits are left out.
Dtype = Literal[
    "F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "U16", "U32", "U64", "BOOL",
    "C64", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
]  # fmt: skip
Bytes = Annotated[int, Meta(ge=0, lt=2**62)]
Sides = Annotated[list[Annotated[int, Meta(ge=0, lt=2**40)]], Meta(max_length=64)]


@dataclass(frozen=True)
class TensorEntry:
    """Say what the header claims of a tensor.

    Args:
        dtype: As safetensors names it.
        shape: Its sides.
        data_offsets: Where its bytes begin and end, after the header.
    """

    dtype: Dtype
    shape: Sides
    data_offsets: tuple[Bytes, Bytes]


@dataclass(frozen=True)
class TensorHeader:
    """Hold a header.

    Args:
        metadata: Texts by name.
        shapes: Of the tensors by name.
    """

    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]


def order_metadata(place: Path) -> None:
    """Sort the metadata of a file that is being written, so that equal tensors give equal bytes.

    The library writes it in an order that differs from file to file.

    Args:
        place: The file, which nobody else knows yet.
    """
    with place.open("r+b") as stream:
        length = int.from_bytes(stream.read(PREAMBLE), "little")
        header = json.loads(stream.read(length))
        header[METADATA] = dict(sorted(header.get(METADATA, {}).items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:  # the same signs in another order
            stream.seek(PREAMBLE)
            stream.write(text.ljust(length))


def read_header(place: Path) -> TensorHeader:
    """Read and check the header of a safetensors file. The library checks what the bytes hold.

    Args:
        place: The file.

    Returns:
        What it says.

    Raises:
        ValueError: In words that follow the file's name, when it is absent, a pipe, larger than the
            memory of this machine, or its header is not that of tensors which our code treats.
    """
    objection = objection_to_file(place)
    if objection:
        raise ValueError(objection)
    try:
        with place.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            check_memory(size)
            length = int.from_bytes(stream.read(PREAMBLE), "little")
            if size < PREAMBLE + 2 or length > size - PREAMBLE:
                raise ValueError("is damaged or cut off (its header is longer than the file)")
            if length > MOST_HEADER:
                raise ValueError(f"has a header of {length:,} bytes, more than {MOST_HEADER:,}")
            text = stream.read(length)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    try:
        return _header(parse_json(text.decode("utf-8")), size - PREAMBLE - length)
    except UnicodeDecodeError:
        raise ValueError("is damaged or cut off (its header is no text)") from None
    except ValueError as error:
        raise ValueError(f"is damaged or cut off (its header {error})") from error


def check_memory(size: int) -> None:
    """Refuse a file that is larger than the memory of this machine, as one with holes can be.

    Args:
        size: Of the file, in bytes.

    Raises:
        ValueError: In words that follow the file's name.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > memory:
        raise ValueError(f"has {size:,} bytes, more than the memory of this machine ({memory:,})")


def _header(content: object, room: int) -> TensorHeader:
    if not isinstance(content, dict):
        raise ValueError("is no table")
    metadata = content.pop(METADATA, None) or {}
    wrong = objection_to(dict[str, str], metadata)
    if wrong:
        raise ValueError(f"has metadata that are no texts: {wrong}")
    for name, entry in content.items():
        wrong = objection_to(TensorEntry, entry) or _contradiction(entry, room)
        if wrong:
            raise ValueError(f"says of tensor {name[:80]!r}: {wrong}")
    return TensorHeader(metadata, {name: tuple(e["shape"]) for name, e in content.items()})


def _contradiction(entry: Mapping[str, list[int]], room: int) -> str:
    start, end = entry["data_offsets"]
    if not start <= end <= room:
        return f"its bytes are from {start} to {end} of {room}"
    if bool(prod(entry["shape"])) != bool(end - start) or prod(entry["shape"]) > end - start:
        return f"its shape is {tuple(entry['shape'])} and it has {end - start} bytes"
    return "" if prod(map(float, filter(None, entry["shape"]))) < 2.0**62 else "its shape is absurd"
