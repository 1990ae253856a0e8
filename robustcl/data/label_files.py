"""Read a table of labels that lies beside images: CSV, TSV, JSON or JSON lines."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from robustcl.core.errors import InputError
from robustcl.core.files import parse_json, read_text

ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".txt")
_FILES = ("file_name", "filename", "file", "image", "path", "img", "name", "id", "image_id")
_LABELS = ("label", "class", "class_name", "target", "category", "y", "labels", "breed")
_MOST = 2**28  # bytes of a table
_KNOWN_ENDINGS = ("", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".gif")


def find_table(folder: Path, images: Sequence[Path], named: str | None) -> Path | None:
    """Find the table of labels of a flat folder of images.

    Args:
        folder: The folder.
        images: Its images.
        named: What `labels=FILE` says; None for nothing.

    Returns:
        The table; None where there is none.

    Raises:
        InputError: When the named one is missing, or several tables could be meant.
    """
    if named is not None:
        place = folder / named if not Path(named).is_absolute() else Path(named)
        if not place.is_file():
            raise InputError(f"there is no table of labels {str(place)!r}; check ',labels=FILE'")
        return place
    names = {image.name for image in images}
    candidates = [
        place
        for where in (folder, folder.parent)
        for place in sorted(where.iterdir())
        if place.suffix.lower() in ENDINGS and place.is_file() and not place.name.startswith(".")
    ]
    fitting = [place for place in candidates if _mentions(place, names)]
    inside = [place for place in fitting if place.parent == folder] or fitting
    if len(inside) > 1:
        shown = ", ".join(repr(place.name) for place in inside[:4])
        raise InputError(
            f"{shown} name images of {str(folder)!r}; choose one, as in ',labels={inside[0].name}'"
        )
    return inside[0] if inside else None


def _mentions(place: Path, names: set[str]) -> bool:
    try:
        return bool(set(read_table(place)) & _spellings(names))
    except InputError:
        return False


def _spellings(names: Iterable[str]) -> set[str]:
    return {spelled for name in names for spelled in (name, Path(name).stem)}


def read_table(place: Path) -> dict[str, str]:
    """Read which label each file has.

    Args:
        place: The table. CSV has a header with a column of files and one of labels, or two columns
            without a header; JSON is an object of files and labels, or a list of objects; JSON
            lines are such objects.

    Returns:
        Labels as text, by the file's name as it stands there.

    Raises:
        InputError: When it is another table, or a file stands twice with two labels.
    """
    try:
        text = read_text(place, most=_MOST)
    except ValueError as error:
        raise InputError(f"{str(place)!r} {error}; give a table of labels") from error
    ending = place.suffix.lower()
    try:
        if ending == ".json":
            rows = _of_json(parse_json(text), place)
        elif ending == ".jsonl":
            rows = _of_objects([parse_json(line) for line in text.splitlines() if line.strip()],
                               place)  # fmt: skip
        else:
            rows = _of_csv(text.removeprefix("\ufeff"), place)
    except (ValueError, csv.Error) as error:
        raise InputError(f"{str(place)!r} is no table of labels ({str(error)[:200]})") from error
    found: dict[str, str] = {}
    for file, label in rows:
        name = Path(file).name
        if found.setdefault(name, label) != label:
            raise InputError(
                f"{str(place)!r} gives {name!r} the labels {found[name]!r} and {label!r}"
            )
    if not found:
        raise InputError(f"{str(place)!r} names no file")
    return found


def _of_json(content: object, place: Path) -> list[tuple[str, str]]:
    if isinstance(content, Mapping):
        plain = all(isinstance(v, str | int) and not isinstance(v, bool) for v in content.values())
        if content and plain:
            return [(str(key), str(value)) for key, value in content.items()]
        lists = [value for value in content.values() if isinstance(value, list)]
        if len(lists) == 1:
            return _of_objects(lists[0], place)
    if isinstance(content, list):
        return _of_objects(content, place)
    raise InputError(f"{str(place)!r} is no object of files and labels")


def _of_objects(entries: Sequence[object], place: Path) -> list[tuple[str, str]]:
    rows = [entry for entry in entries if isinstance(entry, Mapping)]
    if not rows or len(rows) < len(entries):
        raise InputError(f"{str(place)!r} is no list of objects with a file and a label")
    file, label = _columns([str(key) for key in rows[0]], place)
    if not all(file in row and label in row for row in rows):
        raise InputError(f"{str(place)!r} has entries without {file!r} or {label!r}")
    return [(str(row[file]), str(row[label])) for row in rows]


def _of_csv(text: str, place: Path) -> list[tuple[str, str]]:
    first = text.partition("\n")[0]
    separator = next((s for s in ("\t", ";", ",") if s in first), None)
    if separator is None:  # as in the lists of older data sets: FILE LABEL
        rows = [line.split() for line in text.splitlines() if line.strip()]
    else:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator) if any(row)]
    if not rows or min(map(len, rows)) < 2:
        raise InputError(f"{str(place)!r} has no two columns")
    header = [cell.strip().lower() for cell in rows[0]]
    if set(header) & set(_FILES) and set(header) & set(_LABELS):
        file, label = _columns(header, place)
        number, other = header.index(file), header.index(label)
        if min(map(len, rows)) <= max(number, other):
            raise InputError(f"{str(place)!r} has rows that are too short")
        return [(row[number].strip(), row[other].strip()) for row in rows[1:]]
    if len(header) == 2:
        return [(row[0].strip(), row[1].strip()) for row in rows]
    raise InputError(
        f"{str(place)!r} has the columns {', '.join(header[:8])}; call one file_name and one label"
    )


def _columns(header: Sequence[str], place: Path) -> tuple[str, str]:
    lower = {name.lower(): name for name in header}
    file = next((lower[name] for name in _FILES if name in lower), None)
    label = next((lower[name] for name in _LABELS if name in lower), None)
    if file is None or label is None:
        raise InputError(
            f"{str(place)!r} has the columns {', '.join(header[:8])}; call one file_name and one "
            "label"
        )
    return file, label


def labels_of(images: Sequence[Path], place: Path) -> tuple[list[Path], list[str], tuple[str, ...]]:
    """Give images the labels of a table.

    Args:
        images: The images.
        place: The table.

    Returns:
        The images that have a label, their labels, and what was left out, a sentence each.

    Raises:
        InputError: When no image has one.
    """
    table = read_table(place)
    kept: list[Path] = []
    labels: list[str] = []
    used: set[str] = set()
    for image in images:
        name = next((n for n in (image.name, image.stem) if n in table), None)
        if name is not None:
            kept.append(image)
            labels.append(table[name])
            used.add(name)
    if not kept:
        raise InputError(f"{str(place)!r} names none of the {len(images)} images beside it")
    notes = [f"labels are those of {place.name!r}"]
    if len(kept) < len(images):
        notes.append(f"{len(images) - len(kept)} images have no label there and are left out")
    if len(used) < len(table):
        notes.append(f"{len(table) - len(used)} files that it names are not there")
    return kept, labels, tuple(notes)
