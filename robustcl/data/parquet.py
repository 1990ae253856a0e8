"""Load parquet files in the layout of the Hugging Face hub."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from robustcl.data.dataset import Dataset
from robustcl.data.listing import Listing, part_of
from robustcl.data.read_labels import read_labels
from robustcl.data.splits import SPLITS, Split, check_split, split_rows
from robustcl.data.streamed_images import Fetch, hold_images
from robustcl.errors import InputError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label", "labels")


def parquet(
    path: str | Path,
    *,
    split: Split = "test",
    size: int | None = None,
    seed: int = 0,
    whole: bool = False,
) -> Dataset:
    """Load PATH/{train,test}*.parquet (also in PATH/data), or one file.

    Images are in the column `img` or `image`, as {bytes, path} or as bytes; labels are in `label`,
    `fine_label` or `labels`, as integers or as names; class names come from the `huggingface`
    schema metadata. Labels of -1 throughout mean that there are none. A file called train.parquet
    or test.parquet serves that split only; any other single file is split 80/20 by seed,
    stratified.

    Args:
        path: A folder or a file.
        split: 'train' or 'test'.
        size: Side in pixels: resize the shorter side to it, then crop the center (see `decode`).
        seed: Seed of the split of a single file.
        whole: Serve all rows of a single file for both splits instead of drawing one.

    Returns:
        The split as uint8; decoded when asked for where it is large (see `hold_images`).

    Raises:
        InputError: When the file, a column or an image is missing, or an image cannot be decoded.
    """
    return list_parquet(path, split=split, size=size, seed=seed, whole=whole).dataset()


def list_parquet(
    path: str | Path, *, split: Split, size: int | None, seed: int, whole: bool
) -> Listing:
    """List what `parquet` loads.

    Args:
        path: A folder or a file.
        split: 'train' or 'test'.
        size: Side in pixels; None for none.
        seed: Seed of a split that is drawn.
        whole: Serve all rows of a single file for both splits.

    Returns:
        The listing.

    Raises:
        InputError: When the file or a column is missing, or class names differ between files.
    """
    files, draws = _files(Path(path), check_split(split))
    tables = _open(files)
    image_column = _column(tables, IMAGE_COLUMNS, files)
    label_column = _column(tables, LABEL_COLUMNS, files)
    names = _class_names(tables, label_column, files)
    labels, names, labeled = read_labels(
        _labels(tables, label_column, files), names, what=str(files[0])
    )
    listing = Listing(
        name=f"parquet/{Path(path).stem}/{split}",
        labels=labels,
        class_names=names,
        load=lambda rows: hold_images(
            _fetcher(tables, image_column, files),
            rows,
            names=lambda row: f"row {row} of {files[0].name}",
            size=size,
        ),
        labeled=labeled,
    )
    if not draws or whole:
        return listing
    return part_of(listing, split_rows(np.maximum(labels, 0), split, seed=seed))


def _files(path: Path, split: Split) -> tuple[list[Path], bool]:
    # The second value says whether a split must be drawn from the files.
    if path.is_dir():
        found = sorted(path.glob(f"{split}*.parquet")) or sorted(
            path.glob(f"data/{split}*.parquet")
        )
        if not found:
            raise InputError(f"there is no {split}*.parquet in {str(path)!r}; add {split}.parquet")
        return found, False
    if not path.is_file():
        raise InputError(f"there is no file or folder {str(path)!r} for parquet:PATH")
    named = next((side for side in SPLITS if path.stem.split("-")[0] == side), None)
    if named not in (None, split):
        raise InputError(f"{path.name!r} has no {split!r} split; give the folder that has both")
    return [path], named is None


def _open(files: list[Path]) -> list[Any]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError("parquet:PATH needs pyarrow; pip install pyarrow") from error
    return [_reading(file, lambda file=file: pq.ParquetFile(file)) for file in files]


def _reading(file: Path, work: Callable[[], Any]) -> Any:
    # Damage shows itself as either error of pyarrow's, also after the file was opened.
    try:
        return work()
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        reason = " ".join(str(error).split())
        raise InputError(f"{str(file)!r} is not a parquet file, or damaged ({reason})") from error


def _labels(tables: list[Any], column: str, files: list[Path]) -> np.ndarray:
    parts = [
        _reading(file, lambda table=table: table.read(columns=[column])[column])
        for table, file in zip(tables, files, strict=True)
    ]
    for part, file in zip(parts, files, strict=True):
        if part.null_count:
            raise InputError(f"{str(file)!r} has rows without a label; drop them")
    columns = [part.to_numpy() for part in parts]
    other = next((k for k, stored in enumerate(columns) if _kind(stored) != _kind(columns[0])), 0)
    if other:
        raise InputError(
            f"{files[0].name!r} and {files[other].name!r} have labels of other types; write both "
            "with the same"
        )
    return np.concatenate(columns)


def _kind(stored: np.ndarray) -> str:
    return "integer" if stored.dtype.kind in "iu" else stored.dtype.kind


def _fetcher(tables: list[Any], column: str, files: list[Path]) -> Fetch:
    # Row groups are read as their images are asked for; the last ones stay in memory.
    groups = [
        (table, number, file)
        for table, file in zip(tables, files, strict=True)
        for number in range(table.num_row_groups)
    ]
    sizes = [table.metadata.row_group(number).num_rows for table, number, _ in groups]
    ends = np.cumsum(sizes)

    @lru_cache(maxsize=2)
    def cells(group: int) -> Any:
        table, number, file = groups[group]
        return _reading(file, lambda: table.read_row_group(number, columns=[column]).column(0))

    def fetch(rows: np.ndarray) -> list[bytes | Path]:
        # Each group is read once, whatever the order of the rows.
        found: dict[int, bytes | Path] = {}
        owners = np.searchsorted(ends, rows, side="right")
        for group in np.unique(owners).tolist():
            part = np.flatnonzero(owners == group)
            inside = rows[part] - (ends[group] - sizes[group])
            taken = cells(group).take(inside).to_pylist()
            sources = (_source(cell, groups[group][2]) for cell in taken)
            found.update(zip(part.tolist(), sources, strict=True))
        return [found[number] for number in range(len(rows))]

    return fetch


def _column(tables: list[Any], names: tuple[str, ...], files: list[Path]) -> str:
    # The first file decides, and the others have the same column.
    wanted = names
    for table, file in zip(tables, files, strict=True):
        there = table.schema_arrow.names
        found = next((name for name in wanted if name in there), None)
        if found is None:
            raise InputError(
                f"{str(file)!r} has the columns {', '.join(there) or 'none'}; "
                f"expected one called {' or '.join(wanted)}"
            )
        if there.count(found) > 1:
            raise InputError(f"{str(file)!r} has two columns called {found!r}; drop one")
        wanted = (found,)
    return wanted[0]


def _source(cell: Any, file: Path) -> bytes | Path:
    if isinstance(cell, bytes):
        return cell
    if cell is not None and not isinstance(cell, dict):
        raise InputError(
            f"{str(file)!r} has images of type {type(cell).__name__}; store encoded bytes, or "
            "structs of bytes and path"
        )
    fields: dict[str, Any] = cell or {}
    if fields.get("bytes") is not None:
        return fields["bytes"]
    relative = fields.get("path")
    if relative is None:
        raise InputError(f"{str(file)!r} has an image with neither bytes nor path; drop that row")
    return file.parent / relative


def _class_names(tables: list[Any], column: str, files: list[Path]) -> tuple[str, ...]:
    found = [_names_of(table.schema_arrow.metadata, column) for table in tables]
    other = next((k for k, names in enumerate(found) if names != found[0]), None)
    if other is not None:
        raise InputError(
            f"{files[0].name!r} and {files[other].name!r} have other class names; write both with "
            "the same"
        )
    return found[0]


def _names_of(metadata: dict[bytes, bytes] | None, column: str) -> tuple[str, ...]:
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"the 'huggingface' metadata names the classes of {column!r} by {names!r}; write a "
            "list of strings"
        )
    return tuple(names)
