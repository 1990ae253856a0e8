"""Read weight files of others, and run nothing that they name."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from robustcl.core.checks import is_plain
from robustcl.core.errors import CheckpointError
from robustcl.core.files import objection_to_file
from robustcl.core.tensor_header import check_memory, read_header
from robustcl.core.terminal import printable
from robustcl.models.stored_file import has_description, read_stored

MOST_ENTRIES = 200_000
_ARCHIVE_TIMES = (
    4  # bytes that entries may become for each byte of the archive; torch does not compress
)
_ARCHIVE_FREE_BYTES = 2**20  # what they may become besides
END, END64 = b"PK\x05\x06", b"PK\x06\x06"
TAIL = 2**16 + 200  # bytes at the end that hold the number of entries


def check_archive(place: Path) -> None:
    """Refuse an archive that is damaged, or that would become far larger than it is.

    torch itself does not compare the checksums in the archives that it writes.

    Args:
        place: The file; one that is no archive is left to others.

    Raises:
        CheckpointError: When an entry does not have its checksum, or there are too many entries, or
            they are compressed as no weights are.
    """
    if not zipfile.is_zipfile(place):
        return
    count, size = _stated_entries(place), place.stat().st_size
    if count > MOST_ENTRIES:
        raise CheckpointError(
            f"{str(place)!r} is an archive of {count:,} entries, more than {MOST_ENTRIES:,}; save "
            "a state_dict()"
        )
    with zipfile.ZipFile(place) as archive:
        whole = sum(entry.file_size for entry in archive.infolist())
        if whole > _ARCHIVE_TIMES * size + _ARCHIVE_FREE_BYTES:
            raise CheckpointError(
                f"{str(place)!r} has {size:,} bytes and claims to hold {whole:,}; save it again "
                "by torch.save, which does not compress"
            )
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(
            f"{str(place)!r} is damaged: {damaged!r} does not have its checksum; copy it again, or "
            "save it again where it was written without checksums"
        )


def _stated_entries(place: Path) -> int:
    # From the end of the archive: its reader would make an object of every entry first.
    with place.open("rb") as stream:
        stream.seek(max(0, place.stat().st_size - TAIL))
        tail = stream.read()
    counts = [0]
    for mark, start, length in ((END, 10, 2), (END64, 32, 8)):
        where = tail.rfind(mark)
        if where >= 0:
            counts.append(int.from_bytes(tail[where + start : where + start + length], "little"))
    return max(counts)


WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
MOST_TENSORS = 200_000
_TIMES = 8  # bytes that tensors may claim for each byte that the file holds
_FREE_BYTES = 2**26  # what they may claim besides
_REASON = 300  # signs of a library's error
SHOWN, MENTIONED = 60, 8  # signs of a key, and keys, in a message


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read tensors from a .safetensors file, or a .pt or .pth with `weights_only=True`.

    A flipped bit is found where the file has a checksum: in checkpoints of robustcl, and in .pt
    and .pth files in the form of a zip archive, which torch itself does not check. In other files
    it is found where it makes the file unreadable or a number infinite, and not otherwise.

    Args:
        path: The file.

    Returns:
        Tensors by key.

    Raises:
        CheckpointError: When the file is missing or damaged, needs unpickling, or has no tensors.
    """
    place = Path(path)
    objection = objection_to_file(place)
    if objection == "does not exist":
        raise CheckpointError(f"there is no weight file {str(place)!r}; check the path")
    if objection:
        raise CheckpointError(f"{str(place)!r} {objection}; give a weight file")
    if is_checkpoint(place):
        return read_stored(place).tensors
    try:
        found = _read(place)
        _check_tensors(found)
    except CheckpointError:
        raise
    except _FaultError as error:  # in words that follow the file's name
        raise CheckpointError(f"{str(place)!r} {error}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{str(place)!r} holds more than tensors and would run code when loaded; where you "
            "trust it, save its state_dict() alone, or as .safetensors"
        ) from error
    except (Exception, RecursionError) as error:  # damage makes torch's readers fail in many ways
        # The first sentence: torch's later ones advise to allow code.
        said = str(error).partition("\n")[0].partition(". ")[0]
        reason = printable(said[:_REASON]) or type(error).__name__
        raise CheckpointError(f"{str(place)!r} is damaged or no weight file ({reason})") from error
    return found


def is_checkpoint(path: str | Path) -> bool:
    """Tell whether a weight file is a checkpoint of robustcl.

    Args:
        path: The file.

    Returns:
        Whether it has a description.
    """
    place = Path(path)
    return place.suffix == ".safetensors" and has_description(place)


def _read(place: Path) -> dict[str, Tensor]:
    if place.suffix == ".safetensors":
        try:
            read_header(place)
        except ValueError as error:
            raise _FaultError(f"{error}; copy it again") from error
        return load_file(place)
    try:
        check_memory(place.stat().st_size)
    except ValueError as error:
        raise _FaultError(f"{error}; give a smaller file") from error
    check_archive(place)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of kinds of tensors that are refused where they are wanted
        return _tensors(torch.load(place, map_location="cpu", weights_only=True))


def _tensors(content: Any) -> dict[str, Tensor]:
    # A table may hold itself: those that were entered before are not entered again.
    seen: set[int] = set()
    while isinstance(content, Mapping) and id(content) not in seen:
        seen.add(id(content))
        inner = (content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping))
        content = next(inner, content)
    entries = content if isinstance(content, Mapping) else {}
    given = {key: value for key, value in entries.items() if isinstance(value, Tensor)}
    strange = next((key for key in given if type(key) not in (str, int)), None)
    if strange is not None:
        raise _FaultError(f"has a tensor under a {type(strange).__name__}; name tensors by texts")
    found = {str(key): value for key, value in given.items()}
    if len(found) < len(given):
        raise _FaultError("has two tensors of one name, a text and a number; save a state_dict()")
    if found:
        return found
    within = [str(key)[:SHOWN] for key, value in entries.items() if _holds_tensors(value)]
    if within:
        raise _FaultError(
            f"holds no tensors by name itself, but its entries {within[:MENTIONED]} do; save "
            "the one that is the encoder"
        )
    raise _FaultError("holds no tensors by name; save a state_dict()")


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_of_tensors(part) for part in value)
    return _of_tensors(value)


def _of_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(part, Tensor) for part in value.values())


def _check_tensors(found: Mapping[str, Tensor]) -> None:
    # A view of few numbers may claim to be many: by a stride of 0, or many views of the same ones.
    if len(found) > MOST_TENSORS:
        raise _FaultError(f"holds {len(found):,} tensors, more than {MOST_TENSORS:,}")
    claimed, held = 0, dict[int, int]()
    for value in found.values():
        if not is_plain(value):
            continue  # refused where it is wanted
        claimed += value.numel() * value.element_size()
        storage = value.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
    if claimed > _TIMES * sum(held.values()) + _FREE_BYTES:
        raise _FaultError(
            f"claims tensors of {claimed:,} bytes and holds {sum(held.values()):,}: its views "
            "repeat numbers; save contiguous copies"
        )


class _FaultError(Exception):
    """Say what is wrong with a file, in words that follow its name."""
