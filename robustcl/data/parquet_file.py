"""Read columns of a parquet file of others within bounds of memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from robustcl.core.errors import InputError
from robustcl.core.files import open_file
from robustcl.core.memory import require_memory
from robustcl.data.parquet_pages import LENGTHS, PREFIXES, Group, Pages, read_footer, read_pages

_LARGE = 2**28  # bytes of a row group that may come from a far smaller part of the file
_DENSEST = 20  # times that encoded images shrink at most when they are packed
_SHARED = 2**30  # bytes of a row group whose equal values are kept once
FEW = 16  # rows of a larger one that are read at once
_MANY = 1_000_000  # rows that no file is too small for
_CURE = "write it again, by pyarrow or the datasets library"


@dataclass(frozen=True, eq=False)
class ParquetFile:
    """Hold an open parquet file.

    Args:
        path: The file.
        groups: What its footer says of the row groups.
        plain: As pyarrow opens it.
    """

    path: Path
    groups: Sequence[Group]
    plain: Any

    @cached_property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return reading(self.path, lambda: self.plain.schema_arrow.names)

    @cached_property
    def shared(self) -> Any:
        """The file opened so that equal values of a page are kept once."""
        import pyarrow.parquet as pq

        def opened() -> Any:
            schema = self.plain.schema
            stored = [schema.column(k) for k in range(len(schema))]
            texts = [
                column.path
                for column in stored
                if column.physical_type == "BYTE_ARRAY" and column.max_repetition_level == 0
            ]
            return pq.ParquetFile(self.path, read_dictionary=texts)

        return reading(self.path, opened)

    @property
    def group_sizes(self) -> list[int]:
        """Rows of every row group."""
        return [group.rows for group in self.groups]


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
    with open_file(path, cure=_CURE) as stream:
        size = stream.seek(0, 2)
        groups = reading(path, lambda: read_footer(stream))
    found = ParquetFile(path, groups, reading(path, lambda: pq.ParquetFile(path)))
    rows, said = found.group_sizes, found.plain.metadata.num_rows
    # An image takes a byte of the file at least; labels alone may be packed to almost nothing.
    if min(rows, default=0) < 0 or sum(rows) != said or sum(rows) > max(size, _MANY):
        raise InputError(f"{str(path)!r} says that it has {said:,} rows in {size:,} bytes; {_CURE}")
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
    unpacked, packed, sharing = 0, 0, True
    for column in columns:
        pages, size = reading(file.path, lambda column=column: _pages(file, group, column))
        if PREFIXES in pages.encodings:
            raise InputError(
                f"{str(file.path)!r} stores {column!r} in the encoding DELTA_BYTE_ARRAY, which is "
                f"not read; {_CURE}"
            )
        unpacked, packed = unpacked + pages.unpacked, packed + size
        sharing = sharing and LENGTHS not in pages.encodings
    what = f"row group {group} of {str(file.path)!r}"
    if unpacked > max(_LARGE, _DENSEST * packed):
        raise InputError(
            f"{what} unpacks {packed:,} bytes to {unpacked:,}, which no images do; {_CURE}"
        )
    require_memory(unpacked, what=what, cure="write smaller row groups")
    table = reading(file.path, lambda: _table(file, group, columns, unpacked, sharing))
    rows = file.groups[group].rows
    if table.num_rows != rows:
        raise InputError(f"{what} has {table.num_rows:,} rows, not {rows:,}; {_CURE}")
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
            f"{str(file)!r} is not a parquet file, or damaged ({reason}); {_CURE}"
        ) from error


def _pages(file: ParquetFile, group: int, column: str) -> tuple[Pages, int]:
    chunk = file.groups[group].chunks.get(column)
    if chunk is None:
        raise ValueError(f"row group {group} lacks the column {column!r}")
    with open_file(file.path, cure=_CURE) as stream:
        return read_pages(stream, chunk), chunk.size


def _table(
    file: ParquetFile, group: int, columns: Sequence[str], unpacked: int, sharing: bool
) -> Any:
    if sharing and unpacked <= _SHARED:
        return file.shared.read_row_group(group, columns=list(columns))
    import pyarrow as pa

    # More is beyond an array of shared values, and some encodings pyarrow does not read into one.
    parts, total = [], 0
    for part in file.plain.iter_batches(FEW, row_groups=[group], columns=list(columns)):
        parts.append(part)
        total += part.nbytes
        if total > 2 * unpacked:
            raise InputError(
                f"row group {group} of {str(file.path)!r} repeats images so often that they take "
                f"more than {total:,} bytes; {_CURE}"
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


def values(file: ParquetFile, column: Any, rows: np.ndarray) -> list[Any]:
    """Take values of a column; equal ones of a page are one object.

    Args:
        file: Whose column it is.
        column: A chunked array.
        rows: (R,) which.

    Returns:
        Python values; None for those that are null.

    Raises:
        InputError: When the file is damaged.
    """
    return reading(file.path, lambda: _values(column, rows))


def _values(column: Any, rows: np.ndarray) -> list[Any]:
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
