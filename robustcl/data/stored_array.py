"""Read arrays that numpy stored; what a header claims is compared with the file first."""

import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from robustcl.core.errors import InputError
from robustcl.core.files import open_file
from robustcl.core.memory import require_memory

Stream = IO[bytes]
_LARGE = 2**29  # bytes of an array that may come from a far smaller file
_DENSEST = 100  # times that images shrink at most when they are packed
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # as numpy writes
_CURE = "write it again by np.save or np.savez"


@dataclass(frozen=True)
class Header:
    """State what an array is said to be.

    Args:
        shape: Its shape.
        dtype: Its type.
        start: Place of the first number.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    start: int

    @property
    def size(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: Path) -> np.ndarray:
    """Read a .npy file; nothing is unpickled.

    Args:
        path: The file.

    Returns:
        The array.

    Raises:
        InputError: When it is no ordinary file or no array, or does not hold what its header says.
    """
    with open_file(path, cure=_CURE) as stream:
        return _read(stream, os.fstat(stream.fileno()).st_size, repr(str(path)))


def map_npy(path: Path) -> np.ndarray:
    """Map a .npy file into memory, so that only the rows that are asked for are read.

    Args:
        path: The file.

    Returns:
        The array, read-only.

    Raises:
        InputError: When it is no ordinary file or no array, or does not hold what its header says.
    """
    with open_file(path, cure=_CURE) as stream:
        header = _header(stream, os.fstat(stream.fileno()).st_size, repr(str(path)))
        if not header.size:
            return np.zeros(header.shape, dtype=header.dtype)
        return np.lib.format.open_memmap(path, mode="r")


def read_npz(path: Path, names: tuple[str, ...]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Read some arrays of a .npz file; nothing is unpickled.

    Args:
        path: The file.
        names: Arrays that are wanted.

    Returns:
        Those that are there, by name; and the names of all.

    Raises:
        InputError: When it is no ordinary file or no archive of arrays, a name stands twice, or
            an array is not what its header says, too large, or encrypted.
        MemoryError: When memory runs out all the same.
    """
    what = repr(str(path))
    with open_file(path, cure=_CURE) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                members = _members(archive, what)
                found = {
                    name: _member(archive, members[name], f"{name!r} in {what}")
                    for name in names
                    if name in members
                }
                return found, tuple(members)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # damaged archives raise a dozen kinds
            raise InputError(
                f"{what} cannot be read as an npz of plain arrays ({_reason(error)}); pickles are "
                "refused"
            ) from error


def _members(archive: zipfile.ZipFile, what: str) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.filename.removesuffix(".npy")
        if name in found:
            raise InputError(f"{what} has two arrays called {name!r}; {_CURE}")
        found[name] = entry
    return found


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, what: str) -> np.ndarray:
    if entry.flag_bits & 1:
        raise InputError(f"{what} is encrypted; {_CURE}")
    if entry.compress_type not in PACKED:
        raise InputError(f"{what} is packed in a way that numpy does not write; {_CURE}")
    if entry.file_size > _LARGE and entry.file_size > _DENSEST * entry.compress_size:
        raise InputError(
            f"{what} unpacks {entry.compress_size:,} bytes to {entry.file_size:,}, which no images "
            f"do; {_CURE}"
        )
    with archive.open(entry) as stream:
        return _read(stream, entry.file_size, what)


def _read(stream: Stream, size: int, what: str) -> np.ndarray:
    header = _header(stream, size, what)
    require_memory(2 * header.size, what=f"the array {what}", cure="use fewer or smaller images")
    try:
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(f"{what} cannot be read ({_reason(error)}); {_CURE}") from error


def _header(stream: Stream, size: int, what: str) -> Header:
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read(stream)
        header = Header(tuple(shape), dtype, stream.tell())
    except Exception as error:  # the header is a text that Python parses
        raise InputError(
            f"{what} is no array of numbers or strings ({_reason(error)}); {_CURE}"
        ) from error
    if dtype.hasobject or dtype.kind == "V" or dtype.itemsize == 0:
        raise InputError(
            f"{what} holds values of type {str(dtype)[:80]}; pickles are refused, and so "
            "are records: store numbers or strings"
        )
    if min(header.shape, default=1) < 0 or header.size > size - header.start:
        raise InputError(
            f"{what} says that it has the shape {str(header.shape)[:80]} of {dtype}, but holds "
            f"{size - header.start:,} bytes; {_CURE}"
        )
    return header


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
