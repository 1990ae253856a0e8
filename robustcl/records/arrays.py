"""Keep arrays beside records."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from robustcl.core.errors import RunError
from robustcl.core.files import objection_to_file
from robustcl.core.output_folder import OutputFolder
from robustcl.records.lines import OLD_SCHEMA
from robustcl.records.ranks import rank
from robustcl.records.reading import read_manifest

WHOLE, NUMBER, TEXT = "iu", "fiub", "U"
# By array: kinds of numbers, and axes.
_COLUMNS: Mapping[str, tuple[str, int]] = {
    "index": (WHOLE, 1),
    "labels": (WHOLE, 1),
    "embeddings": (NUMBER, 2),
    "clean": (NUMBER, 4),
    "attacked": (NUMBER, 4),
    "radius": (NUMBER, 1),
    "margins": (NUMBER, 3),
    "norms": (NUMBER, 3),
    "counts": (WHOLE, 2),
    "eps": (NUMBER, 1),
    "evaluations": (NUMBER, 1),
}
_SHARED = frozenset({"eps", "evaluations", "attack"})  # not about single images
# By file, which arrays it has.
FILES: Mapping[str, frozenset[str]] = {
    "embeddings": frozenset({"index", "labels", "embeddings"}),
    "triples": frozenset({"index", "clean", "attacked", "radius"}),
    "flagged": frozenset({"index", "clean"}),
    "curves": frozenset({"index", "margins", "norms", "counts", "eps", "evaluations"}),
}


def objection_to_arrays(name: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Say why arrays are not those of a file.

    Args:
        name: Of the file, as in `save_arrays`.
        arrays: What it holds.

    Returns:
        What is wrong; '' where nothing is. Stages of a study may hold any numbers and texts.
    """
    for key, array in arrays.items():
        if array.dtype.kind not in NUMBER + TEXT:
            return f"its array {key!r} holds {array.dtype}, no numbers"
    wanted = FILES.get("curves" if name.startswith("curves-") else name)
    if wanted is None:
        return ""
    lacking = sorted(wanted - arrays.keys())
    if lacking:
        return f"it has no array {lacking[0]!r}"
    for key in wanted & _COLUMNS.keys():
        kinds, axes = _COLUMNS[key]
        array = arrays[key]
        if array.dtype.kind not in kinds or array.ndim != axes:
            return f"its array {key!r} holds {array.dtype} on {array.ndim} axes"
    for key in arrays.keys() - _SHARED:
        if not arrays[key].ndim:  # how many rows there are is the reader's to compare
            return f"its array {key!r} has no row for each index"
    if len(arrays["index"]) and int(arrays["index"].min()) < 0:
        return "its array 'index' has one below 0"
    if name.startswith("curves-"):
        return _curves(arrays)
    if "attacked" in wanted and arrays["attacked"].shape != arrays["clean"].shape:
        return "its arrays 'clean' and 'attacked' are of different shapes"
    return ""


def _curves(arrays: Mapping[str, np.ndarray]) -> str:
    budgets, times = len(arrays["eps"]), len(arrays["evaluations"])
    for key, shape in (("margins", (budgets, times)), ("norms", (budgets, times)),
                       ("counts", (budgets,))):  # fmt: skip
        if arrays[key].shape[1:] != shape:
            return f"its array {key!r} is {arrays[key].shape[1:]} for each image, not {shape}"
    return "" if times else "its array 'evaluations' is empty"


RUN = "run"
PER_IMAGE = {
    *("index", "labels", "embeddings", "clean", "attacked", "radius"),
    *("margins", "norms", "counts"),
}
MOST_ARRAYS = 1000  # in a file
_TIMES = 4  # bytes that arrays may become for each byte of the file
_FREE_BYTES = 2**28  # what they may become besides: pictures shrink far
_REASON = 200  # signs of a library's error in a message
_CURE = "repeat the command of the run with --resume, which computes it again"


def save_arrays(
    folder: Path, name: str, arrays: Mapping[str, np.ndarray], *, compress: bool = True
) -> None:
    """Write arrays/NAME.npz so that the file is either the old one or the new one.

    Args:
        folder: The run folder.
        name: 'embeddings', 'triples', 'flagged', or 'curves-' and the attack.
        arrays: The arrays. `index`, where there is one, says of which images; the others then
            have a row per image, unless `load_arrays` is told otherwise.
        compress: Whether to compress them, which shortens pictures but hardly embeddings.
    """
    place = _place(folder, name, rank()).relative_to(folder)
    save = np.savez_compressed if compress else np.savez
    bound = {**arrays, RUN: np.array(f"{_configuration(folder)[0]} {name}")}
    with OutputFolder(folder).writing(place.as_posix()) as stream:
        save(stream, **bound)  # pyright: ignore[reportArgumentType]


def own_arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Read what this process has written to arrays/NAME.npz.

    Args:
        folder: The run folder.
        name: As in `save_arrays`.

    Returns:
        The arrays; empty when the file is absent.

    Raises:
        RunError: When the file is damaged or of another run.
    """
    return _read(folder, _place(folder, name, rank()))


def load_arrays(
    folder: Path, name: str, *, shared: Collection[str] = (), lenient: bool = False
) -> dict[str, np.ndarray]:
    """Read arrays/NAME.npz of all processes.

    Args:
        folder: The run folder.
        name: As in `save_arrays`.
        shared: Arrays that are not about single images; all processes have the same.
        lenient: As in `every_row`.

    Returns:
        The arrays, one row per image, ascending by index; empty when there is no file.
    """
    arrays = every_row(folder, name, shared=shared, lenient=lenient)
    if "index" not in arrays:
        return arrays
    _, rows = np.unique(arrays["index"], return_index=True)
    return {key: value if key in shared else value[rows] for key, value in arrays.items()}


def every_row(
    folder: Path, name: str, *, shared: Collection[str] = (), lenient: bool = False
) -> dict[str, np.ndarray]:
    """Read arrays/NAME.npz of all processes as it is.

    Args:
        folder: The run folder.
        name: As in `save_arrays`.
        shared: Arrays that are not about single images.
        lenient: Whether files that are damaged or of another run are left out, instead of refused;
            `array_faults` names them.

    Returns:
        The arrays; an image that several processes have, for a batch went from one to another, has
        several rows.

    Raises:
        RunError: When a file is damaged or of another run, and `lenient` is off.
    """
    parts = []
    for place in (_place(folder, name, 0), *sorted(folder.glob(f"arrays/{name}.[0-9]*.npz"))):
        try:
            parts.append(_read(folder, place))
        except RunError:
            if not lenient:
                raise
    parts = [part for part in parts if part]
    if not parts:
        return {}
    try:
        return {
            key: value if key in shared else np.concatenate([part[key] for part in parts])
            for key, value in parts[0].items()
        }
    except (KeyError, ValueError) as error:
        if lenient:
            return parts[0]
        raise RunError(
            f"the files of arrays {name!r} in {str(folder)!r} do not go together ({error}); {_CURE}"
        ) from error


def array_files(folder: Path) -> Iterator[tuple[Path, str, int]]:
    """List the files of arrays.

    Args:
        folder: The run folder.

    Yields:
        Each file, its name as in `save_arrays`, and the process that wrote it.
    """
    for place in sorted(folder.glob("arrays/*.npz")):
        if not place.name.startswith("."):
            yield (place, *_name_of(place))


def array_faults(folder: Path) -> list[tuple[Path, str]]:
    """Find files of arrays that are damaged or of another run, or that the manifest misses.

    Args:
        folder: The run folder.

    Returns:
        Each file, and a sentence without its stop.
    """
    found, there = [], set()
    for place, name, _ in array_files(folder):
        there.add(name)
        try:
            _read(folder, place)
        except RunError as error:
            found.append((place, str(error)))
    for name in sorted(set(_configuration(folder)[2]) - there):
        place = _place(folder, name, 0)
        found.append((place, f"{str(place)!r} is not there any more; {_CURE}"))
    return found


def replace_rows(
    kept: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Put rows in the place of older ones about the same images.

    Args:
        kept: Arrays with a row per image, and their `index`; may be empty.
        new: The same, of other or the same images.

    Returns:
        Both, without the older rows.
    """
    if not kept:
        return dict(new)
    stay = ~np.isin(kept["index"], new["index"])
    return {key: np.concatenate([kept[key][stay], new[key]]) for key in new}


def written_for(place: Path) -> str:
    """Say of which configuration a file of arrays was written.

    Args:
        place: The file.

    Returns:
        The hash of the configuration; '' where the file does not say or cannot be read.
    """
    try:
        found = _loaded(place)
    except Exception:  # noqa: BLE001 as in `_read`
        return ""
    return str(found[RUN]).partition(" ")[0] if RUN in found else ""


def _place(folder: Path, name: str, number: int) -> Path:
    return folder / "arrays" / (f"{name}.{number}.npz" if number else f"{name}.npz")


def _name_of(place: Path) -> tuple[str, int]:
    match = re.fullmatch(r"(.+)\.(\d+)", place.stem)
    return (match[1], int(match[2])) if match else (place.stem, 0)


def _configuration(folder: Path) -> tuple[str, bool, tuple[str, ...]]:
    # The hash of the run's configuration, whether its arrays may lack it, and which it had at last.
    if not (folder / "manifest.json").is_file():
        return "", True, ()
    manifest = read_manifest(folder)
    old = manifest.get("schema") == OLD_SCHEMA
    return str(manifest["config_hash"]), old, tuple(manifest.get("arrays") or ())


def _read(folder: Path, place: Path) -> dict[str, np.ndarray]:
    if not place.exists() and not place.is_symlink():
        return {}
    try:
        found = _loaded(place)
    except Exception as error:  # numpy's readers fail in many ways
        reason = " ".join(str(error).split())[:_REASON] or type(error).__name__
        raise RunError(f"{str(place)!r} is damaged ({reason}); {_CURE}") from error
    config, old, _ = _configuration(folder)
    name, known = _name_of(place)[0], found.pop(RUN, None)
    if known is None and not old:
        raise RunError(f"{str(place)!r} does not say to which run it belongs; {_CURE}")
    if known is not None and config and str(known) != f"{config} {name}":
        raise RunError(
            f"{str(place)!r} was written as {str(known)!r}, not for this run ({config} {name}); "
            f"{_CURE}"
        )
    wrong = objection_to_arrays(name, found)
    if wrong:
        raise RunError(f"{str(place)!r} is damaged: {wrong}; {_CURE}")
    lengths = {len(found[key]) for key in PER_IMAGE & found.keys()} if "index" in found else {1}
    if len(lengths) > 1:
        raise RunError(f"{str(place)!r} has arrays of different lengths; {_CURE}")
    return found


def _loaded(place: Path) -> dict[str, np.ndarray]:
    objection = objection_to_file(place)
    if objection:
        raise ValueError(f"it {objection}")
    size = place.stat().st_size
    with ZipFile(place) as archive:
        entries = archive.infolist()
        if len(entries) > MOST_ARRAYS or not all(e.filename.endswith(".npy") for e in entries):
            raise ValueError("it is no archive of arrays")
        whole = sum(entry.file_size for entry in entries)
        if whole > _TIMES * size + _FREE_BYTES:
            raise ValueError(f"it has {size:,} bytes and claims to hold {whole:,}")
    with np.load(place, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}
