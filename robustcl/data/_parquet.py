"""Load parquet files in the layout of the Hugging Face hub."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from robustcl.core.choices import SPLITS, Split
from robustcl.core.errors import InputError
from robustcl.core.files import is_folder, objection_to_file, require_file
from robustcl.data.dataset import Dataset
from robustcl.data.hub_names import hub_names
from robustcl.data.listing import Listing, part_of
from robustcl.data.parquet_file import ParquetFile, open_parquet, read_group, reading, values
from robustcl.data.read_labels import read_labels
from robustcl.data.splits import check_split, split_rows
from robustcl.data.streamed_images import Fetch, hold_images
from robustcl.data.transform import ImageTransform, square

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
    return list_parquet(path, split=split, transform=square(size), seed=seed, whole=whole).dataset()


def list_parquet(
    path: str | Path,
    *,
    split: Split,
    transform: ImageTransform,
    seed: int,
    whole: bool,
    strict: bool = True,
) -> Listing:
    """List what `parquet` loads.

    Args:
        path: A folder or a file.
        split: 'train' or 'test'.
        transform: What is done to each image.
        seed: Seed of a split that is drawn.
        whole: Serve all rows of a single file for both splits.
        strict: Whether an image that cannot be decoded is refused, or left out.

    Returns:
        The listing.

    Raises:
        InputError: When the file or a column is missing, or class names differ between files.
    """
    files, draws = _files(Path(path), check_split(split))
    opened = [open_parquet(file) for file in files]
    columns = image_columns(opened, _column(opened, IMAGE_COLUMNS))
    label_column = _column(opened, LABEL_COLUMNS)
    names = _class_names(opened, label_column)
    labels, names, labeled = read_labels(_labels(opened, label_column), names, what=str(files[0]))
    listing = Listing(
        name=f"parquet/{Path(path).stem}/{split}",
        labels=labels,
        class_names=names,
        load=lambda rows: hold_images(
            _fetcher(opened, columns),
            rows,
            names=lambda row: f"row {row} of {files[0].name}",
            transform=transform,
            strict=strict,
        ),
        labeled=labeled,
    )
    if not draws or whole:
        return listing
    return part_of(listing, split_rows(np.maximum(labels, 0), split, seed=seed))


def _files(path: Path, split: Split) -> tuple[list[Path], bool]:
    # The second value says whether a split must be drawn from the files.
    if is_folder(path):
        found = sorted(path.glob(f"{split}*.parquet")) or sorted(
            path.glob(f"data/{split}*.parquet")
        )
        if not found:
            raise InputError(f"there is no {split}*.parquet in {str(path)!r}; add {split}.parquet")
        return found, False
    if objection_to_file(path) == "does not exist":
        raise InputError(f"there is no file or folder {str(path)!r} for parquet:PATH")
    require_file(path, cure="give parquet:PATH a file, or a folder with train*.parquet")
    named = next((side for side in SPLITS if path.stem.split("-")[0] == side), None)
    if named not in (None, split):
        raise InputError(f"{path.name!r} has no {split!r} split; give the folder that has both")
    return [path], named is None


def _column(files: list[ParquetFile], names: tuple[str, ...]) -> str:
    # The first file decides, and the others have the same column.
    wanted = names
    for file in files:
        there = file.columns
        found = next((name for name in wanted if name in there), None)
        if found is None:
            raise InputError(
                f"{str(file.path)!r} has the columns {', '.join(there[:20]) or 'none'}; "
                f"expected one called {' or '.join(wanted)}"
            )
        if there.count(found) > 1:
            raise InputError(f"{str(file.path)!r} has two columns called {found!r}; drop one")
        wanted = (found,)
    return wanted[0]


def image_columns(files: list[ParquetFile], column: str) -> tuple[str, str]:
    """Name the stored columns of images.

    Args:
        files: The files.
        column: The column of images.

    Returns:
        That of encoded bytes, and that of paths; '' where there is none.

    Raises:
        InputError: When the column holds something else, or files differ.
    """
    found = [_image_column(file, column) for file in files]
    other = next((k for k, parts in enumerate(found) if parts != found[0]), 0)
    if other:
        raise InputError(
            f"{files[0].path.name!r} and {files[other].path.name!r} store images in other ways; "
            "write both with the same"
        )
    return found[0]


def _image_column(file: ParquetFile, column: str) -> tuple[str, str]:
    import pyarrow.types as kinds

    def is_bytes(kind: Any) -> bool:
        kind = kind.value_type if kinds.is_dictionary(kind) else kind
        return kinds.is_binary(kind) or kinds.is_large_binary(kind) or _is_view(kind, "binary")

    kind = _type_of(file, column)
    if is_bytes(kind):
        return column, ""
    inside = {kind.field(k).name: kind.field(k).type for k in range(kind.num_fields)}
    usable = {
        "bytes": lambda part: is_bytes(part) or kinds.is_null(part),
        "path": lambda part: _is_text(part) or kinds.is_null(part),
    }
    there = [name for name in usable if name in inside]
    whole = kinds.is_struct(kind) and len(inside) == kind.num_fields and there
    if not whole or not all(usable[name](inside[name]) for name in there):
        raise InputError(
            f"{str(file.path)!r} has images of type {str(kind)[:80]}; store encoded bytes, or "
            "structs of bytes and path"
        )
    return tuple(f"{column}.{name}" if name in there else "" for name in usable)  # pyright: ignore[reportReturnType]


def _type_of(file: ParquetFile, column: str) -> Any:
    return reading(file.path, lambda: file.plain.schema_arrow.field(column).type)


def _is_text(kind: Any) -> bool:
    import pyarrow.types as kinds

    kind = kind.value_type if kinds.is_dictionary(kind) else kind
    return kinds.is_string(kind) or kinds.is_large_string(kind) or _is_view(kind, "string")


def _is_view(kind: Any, name: str) -> bool:
    return str(kind) == f"{name}_view"  # newer versions of pyarrow know them


def _labels(files: list[ParquetFile], column: str) -> np.ndarray:
    parts = [_labels_of(file, column) for file in files]
    other = next((k for k, stored in enumerate(parts) if _kind(stored) != _kind(parts[0])), 0)
    if other:
        raise InputError(
            f"{files[0].path.name!r} and {files[other].path.name!r} have labels of other types; "
            "write both with the same"
        )
    return np.concatenate(parts)


def _labels_of(file: ParquetFile, column: str) -> np.ndarray:
    import pyarrow.types as kinds

    kind = _type_of(file, column)
    inner = kind.value_type if kinds.is_dictionary(kind) else kind
    if not (kinds.is_integer(inner) or _is_text(inner) or kinds.is_binary(inner)):
        raise InputError(
            f"{str(file.path)!r} has labels of type {str(kind)[:80]}; use integers from 0"
        )
    found = [np.zeros(0, dtype=np.int64 if kinds.is_integer(inner) else object)]
    for group, size in enumerate(file.group_sizes):
        (stored,) = read_group(file, group, [column]) if size else (None,)
        if stored is None:
            continue
        if stored.null_count:
            raise InputError(f"{str(file.path)!r} has rows without a label; drop them")
        if kinds.is_integer(stored.type):
            found.append(stored.to_numpy())
        else:
            found.append(
                np.array([*values(file, stored, np.arange(size)), None], dtype=object)[:-1]
            )
    return np.concatenate(found[1:] or found)


def _kind(stored: np.ndarray) -> str:
    return "integer" if stored.dtype.kind in "iu" else stored.dtype.kind


def _fetcher(files: list[ParquetFile], columns: tuple[str, str]) -> Fetch:
    # Row groups are read as their images are asked for; the last ones stay in memory.
    groups = [(file, number) for file in files for number in range(len(file.group_sizes))]
    sizes = [size for file in files for size in file.group_sizes]
    ends = np.cumsum(sizes)

    @lru_cache(maxsize=4)
    def cells(group: int, column: str) -> Any:
        return read_group(*groups[group], [column])[0]

    def taken(group: int, column: str, rows: np.ndarray) -> list[Any]:
        return (
            values(groups[group][0], cells(group, column), rows) if column else [None] * len(rows)
        )

    def fetch(rows: np.ndarray) -> list[bytes | Path]:
        # Each group is read once, whatever the order of the rows.
        found: dict[int, bytes | Path] = {}
        owners = np.searchsorted(ends, rows, side="right")
        for group in np.unique(owners).tolist():
            part = np.flatnonzero(owners == group)
            inside = rows[part] - (ends[group] - sizes[group])
            contents = taken(group, columns[0], inside)
            lacking = any(content is None for content in contents)
            paths = taken(group, columns[1] if lacking else "", inside)
            for number, content, path in zip(part.tolist(), contents, paths, strict=True):
                found[number] = _source(content, path, groups[group][0].path)
        return [found[number] for number in range(len(rows))]

    return fetch


def _source(content: bytes | None, path: str | None, file: Path) -> bytes | Path:
    if content is not None:
        return content
    if path is None:
        raise InputError(f"{str(file)!r} has an image with neither bytes nor path; drop that row")
    return inside_folder(file.parent, path, what=repr(str(file)))


def inside_folder(folder: Path, path: str, *, what: str) -> Path:
    """Find a file that a data file names, in the data file's own folder.

    Args:
        folder: The folder.
        path: The file's path in it.
        what: The data file, for messages.

    Returns:
        The path.

    Raises:
        InputError: When it leads out of the folder, also by a link, or is no file.
    """
    cure = "store the image's bytes, or put the file beside the data"
    try:
        place = folder / path
        outside = not place.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte, or a loop of links
        raise InputError(f"{what} names the image {path[:80]!r} ({error}); {cure}") from error
    if outside or ".." in place.relative_to(folder).parts:
        raise InputError(f"{what} names the image {path[:80]!r}, outside its folder; {cure}")
    found = objection_to_file(place)
    if found is not None:
        raise InputError(f"{what} names the image {path[:80]!r}, which {found}; {cure}")
    return place


def _class_names(files: list[ParquetFile], column: str) -> tuple[str, ...]:
    found = [
        hub_names(file.plain.schema_arrow.metadata, column, file=str(file.path)) for file in files
    ]
    other = next((k for k, names in enumerate(found) if names != found[0]), None)
    if other is not None:
        raise InputError(
            f"{files[0].path.name!r} and {files[other].path.name!r} have other class names; write "
            "both with the same"
        )
    return found[0]
