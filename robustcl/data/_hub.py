"""Load data sets that the `datasets` library saved to disk, without that library."""

from pathlib import Path
from typing import Any

import numpy as np

from robustcl.core.choices import Split
from robustcl.core.errors import InputError
from robustcl.core.files import is_folder, require_file
from robustcl.data._parquet import IMAGE_COLUMNS, LABEL_COLUMNS, inside_folder
from robustcl.data.hub_names import hub_names
from robustcl.data.listing import Listing, part_of
from robustcl.data.read_labels import read_labels
from robustcl.data.splits import check_split, split_rows
from robustcl.data.streamed_images import hold_images
from robustcl.data.transform import ImageTransform

_CURE = "give hub:PATH a folder that Dataset.save_to_disk wrote"


def list_hub(
    path: str | Path,
    *,
    split: Split,
    transform: ImageTransform,
    seed: int,
    whole: bool,
    strict: bool = True,
) -> Listing:
    """List what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote.

    Args:
        path: The folder.
        split: 'train' or 'test'; for 'test', a split called validation where there is no other.
        transform: What is done to each image.
        seed: Seed of the split of a folder without splits.
        whole: Serve all rows of such a folder for both splits.
        strict: Whether an image that cannot be decoded is refused, or left out.

    Returns:
        The listing.

    Raises:
        InputError: When the folder, a column or the split is missing, or a file is damaged.
    """
    root = Path(path)
    if not is_folder(root):
        raise InputError(f"there is no folder {str(path)!r}; {_CURE}")
    folder, draws = _split_of(root, check_split(split))
    tables = _tables(folder)
    columns = set.intersection(*(set(table.column_names) for table in tables))
    image = next((name for name in IMAGE_COLUMNS if name in columns), None)
    label = next((name for name in LABEL_COLUMNS if name in columns), None)
    if image is None:
        raise InputError(
            f"{str(folder)!r} has the columns {', '.join(sorted(columns)[:20])}; expected one "
            f"called {' or '.join(IMAGE_COLUMNS)}"
        )
    pictures = [cell for table in tables for chunk in table[image].chunks for cell in chunk]
    stored = np.full(len(pictures), -1, dtype=np.int64)
    names: tuple[str, ...] = ()
    if label is not None:
        values = [
            cell.as_py() for table in tables for chunk in table[label].chunks for cell in chunk
        ]
        if any(value is None for value in values):
            raise InputError(f"{str(folder)!r} has rows without a label; drop them")
        whole_numbers = all(isinstance(value, int) for value in values)
        stored = np.array(values, dtype=np.int64 if whole_numbers else object)
        names = hub_names(tables[0].schema.metadata, label, file=str(folder))
    labels, names, labeled = read_labels(stored, names, what=str(folder))

    def fetch(rows: np.ndarray) -> list[bytes | Path]:
        return [_source(pictures[row].as_py(), folder) for row in rows.tolist()]

    listing = Listing(
        name=f"hub/{root.name}/{split}",
        labels=labels,
        class_names=names,
        load=lambda rows: hold_images(
            fetch,
            rows,
            names=lambda row: f"row {row} of {folder.name}",
            transform=transform,
            strict=strict,
        ),
        labeled=labeled,
        notes=(f"the test split is {folder.name!r}",) if folder.name not in (root.name, split)
        else (),
    )  # fmt: skip
    if not draws or whole:
        return listing
    return part_of(listing, split_rows(np.maximum(labels, 0), split, seed=seed))


def _split_of(root: Path, split: Split) -> tuple[Path, bool]:
    if not (root / "dataset_dict.json").is_file():
        return root, True
    wanted = ("train",) if split == "train" else ("test", "validation", "valid", "val")
    found = next((root / name for name in wanted if is_folder(root / name)), None)
    if found is None:
        there = sorted(entry.name for entry in root.iterdir() if is_folder(entry))
        raise InputError(
            f"{str(root)!r} has the splits {', '.join(there) or 'none'} and no {split!r}; name one "
            "of them with ,split=all"
        )
    return found, False


def _tables(folder: Path) -> list[Any]:
    import pyarrow as pa

    files = sorted(folder.glob("*.arrow"))
    if not files:
        raise InputError(f"{str(folder)!r} holds no .arrow file; {_CURE}")
    tables = []
    for file in files:
        require_file(file, cure=_CURE)
        try:
            with pa.memory_map(str(file)) as stream:
                tables.append(pa.ipc.open_stream(stream).read_all())
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{str(file)!r} is damaged ({reason}); save it again") from error
    return tables


def _source(cell: object, folder: Path) -> bytes | Path:
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, dict):
        content, path = cell.get("bytes"), cell.get("path")
        if isinstance(content, bytes):
            return content
        if isinstance(path, str):
            return inside_folder(folder, path, what=repr(str(folder)))
    raise InputError(f"{str(folder)!r} has an image with neither bytes nor path; drop that row")
