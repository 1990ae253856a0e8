"""Read columns of a parquet file of strangers within bounds of memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from robustcl.core.memory import require_memory
from robustcl.core.regular_file import open_file
from robustcl.data.parquet_pages import Pages, read_pages
from robustcl.errors import InputError

LARGE = 2**28  # bytes of a row group that may come from a far smaller part of the file
DENSEST = 20  # times that encoded images shrink at most when they are packed
SHARED = 2**30  # bytes of a row group whose equal values are kept once
FEW = 16  # rows of a larger one that are read at once
CURE = "write it again, by pyarrow or the datasets library"


@dataclass(frozen=True, eq=False)
class ParquetFile:
    """Hold an open parquet file.

    Args:
        path: The file.
        size: Its bytes.
        plain: As pyarrow opens it.
    """

    path: Path
    size: int
    plain: Any

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self.plain.schema_arrow.names

    @cached_property
    def leaves(self) -> list[str]:
        """Paths of the stored columns, as 'img.bytes'."""
        stored = self.plain.schema
        return [stored.column(k).path for k in range(len(stored))]

    @cached_property
    def shared(self) -> Any:
        """The file opened so that equal values of a page are kept once."""
        import pyarrow.parquet as pq

        stored = self.plain.schema
        texts = [
            stored.column(k).path
            for k in range(len(stored))
            if stored.column(k).physical_type == "BYTE_ARRAY"
            and stored.column(k).max_repetition_level == 0
        ]
        return reading(self.path, lambda: pq.ParquetFile(self.path, read_dictionary=texts))

    @cached_property
    def group_sizes(self) -> list[int]:
        """Rows of every row group."""
        described = self.plain.metadata
        return [described.row_group(k).num_rows for k in range(described.num_row_groups)]


def open_parquet(path: Path) -> ParquetFile:
    """Open a parquet file, and compare its number of rows with its size.

    Args:
        path: The file.

    Returns:
        The open file.

    Raises:
        InputError: When pyarrow is not installed, or this is no parquet file.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError("parquet:PATH needs pyarrow; pip install pyarrow") from error
    with open_file(path, cure=CURE) as stream:
        size = stream.seek(0, 2)
    found = ParquetFile(path, size, reading(path, lambda: pq.ParquetFile(path)))
    rows = reading(path, lambda: found.group_sizes)
    # An image takes a byte of the file at least; labels alone may be packed to almost nothing.
    if min(rows, default=0) < 0 or sum(rows) != found.plain.metadata.num_rows or sum(rows) > size:
        raise InputError(
            f"{str(path)!r} says that it has {found.plain.metadata.num_rows:,} rows in {size:,} "
            f"bytes; {CURE}"
        )
    return found


def read_group(file: ParquetFile, group: int, columns: Sequence[str]) -> list[Any]:
    """Read stored columns of a row group.

    Args:
        file: The file.
        group: Number of the row group.
        columns: Paths of stored columns, as 'img.bytes'.

    Returns:
        One chunked array per column, in their order.

    Raises:
        InputError: When the file is damaged, or holds far more than its size allows.
    """
    unpacked, packed = 0, 0
    for column in columns:
        pages, size = reading(file.path, lambda column=column: _pages(file, group, column))
        if pages.prefixes:
            raise InputError(
                f"{str(file.path)!r} stores {column!r} in the encoding DELTA_BYTE_ARRAY, which is "
                f"not read; {CURE}"
            )
        unpacked, packed = unpacked + pages.unpacked, packed + size
    what = f"row group {group} of {str(file.path)!r}"
    if unpacked > max(LARGE, DENSEST * packed):
        raise InputError(
            f"{what} unpacks {packed:,} bytes to {unpacked:,}, which no images do; {CURE}"
        )
    require_memory(unpacked, what=what, cure="write smaller row groups")
    table = reading(file.path, lambda: _table(file, group, columns, unpacked))
    rows = file.group_sizes[group]
    if table.num_rows != rows:
        raise InputError(f"{what} has {table.num_rows:,} rows, not {rows:,}; {CURE}")
    return [_stored(table, column) for column in columns]


def reading(file: Path, work: Callable[[], Any]) -> Any:
    """Do something with pyarrow, whose errors tell of a damaged file.

    Args:
        file: The file.
        work: What is done.

    Returns:
        Its result.

    Raises:
        InputError: When it fails.
    """
    try:
        return work()
    except InputError:
        raise
    except Exception as error:  # damage shows itself in a dozen kinds, also of memory
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{str(file)!r} is not a parquet file, or damaged ({reason}); {CURE}"
        ) from error


def _pages(file: ParquetFile, group: int, column: str) -> tuple[Pages, int]:
    described = file.plain.metadata.row_group(group).column(file.leaves.index(column))
    start, size = described.data_page_offset, described.total_compressed_size
    if described.has_dictionary_page and 0 < (described.dictionary_page_offset or 0) < start:
        start = described.dictionary_page_offset
    if start < 0 or size < 0 or start + size > file.size:
        raise ValueError(f"column {column!r} lies outside the file")
    with open_file(file.path, cure=CURE) as stream:
        return read_pages(stream, start, size), size


def _table(file: ParquetFile, group: int, columns: Sequence[str], unpacked: int) -> Any:
    if unpacked <= SHARED:
        return file.shared.read_row_group(group, columns=list(columns))
    import pyarrow as pa

    # Larger ones are beyond what an array of shared values holds.
    parts, total = [], 0
    for part in file.plain.iter_batches(FEW, row_groups=[group], columns=list(columns)):
        parts.append(part)
        total += part.nbytes
        if total > 2 * unpacked:
            raise InputError(
                f"row group {group} of {str(file.path)!r} repeats images so often that they take "
                f"more than {total:,} bytes; {CURE}"
            )
    return pa.Table.from_batches(parts)


def _stored(table: Any, column: str) -> Any:
    top, _, field = column.partition(".")
    found = table.column(top)
    if not field or not found.num_chunks:
        return found
    import pyarrow as pa

    position = found.type.get_field_index(field)
    return pa.chunked_array([chunk.flatten()[position] for chunk in found.chunks])


def values(column: Any, rows: np.ndarray) -> list[Any]:
    """Take values of a column; equal ones of a page are one object.

    Args:
        column: A chunked array.
        rows: (R,) which.

    Returns:
        Python values; None for those that are null.
    """
    import pyarrow as pa

    ends = np.cumsum([len(chunk) for chunk in column.chunks])
    known: dict[tuple[int, int], Any] = {}
    found = []
    for row, owner in zip(rows.tolist(), np.searchsorted(ends, rows, side="right"), strict=True):
        chunk = column.chunk(int(owner))
        inside = row - int(ends[owner]) + len(chunk)
        if not pa.types.is_dictionary(chunk.type):
            found.append(chunk[inside].as_py())
            continue
        index = chunk.indices[inside].as_py()
        if index is None:
            found.append(None)
            continue
        key = int(owner), index
        if key not in known:
            known[key] = chunk.dictionary[index].as_py()
        found.append(known[key])
    return found
