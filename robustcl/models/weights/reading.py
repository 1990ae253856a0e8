"""Read weight files of others, and run nothing that they name."""

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from robustcl.core.checks import is_plain
from robustcl.core.errors import CheckpointError
from robustcl.core.files import objection_to_file
from robustcl.core.tensor_header import check_memory, read_header
from robustcl.core.terminal import printable
from robustcl.models.stored_file import has_description, read_stored
from robustcl.models.weights.contents import SHOWN, FaultError, StoredNetwork, networks_in

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


MOST_TENSORS = 200_000
_TIMES = 8  # bytes that tensors may claim for each byte that the file holds
_FREE_BYTES = 2**26  # what they may claim besides
_REASON = 300  # signs of a library's error
_POINTER = b"version https://git-lfs"
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")
# Files of other kinds, by their first bytes or their ending.
_KINDS = ((b"\x89HDF\r\n", "an HDF5 file"), (b"\x1f\x8b", "compressed by gzip"),
          (b"%PDF", "a PDF"), (b"{", "a text in JSON"))  # fmt: skip
_ENDINGS = {
    ".onnx": "an ONNX graph", ".h5": "a file of Keras", ".msgpack": "a file of Flax",
    ".tflite": "a file of TensorFlow", ".pb": "a file of TensorFlow", ".npz": "arrays of numpy",
    ".gguf": "a file of GGML",
}  # fmt: skip


def read_networks(path: str | Path) -> list[StoredNetwork]:
    """Read the networks in a .safetensors file, or a .pt or .pth with `weights_only=True`.

    Beside tensors and plain values an `argparse.Namespace` is let in, as inert data. A flipped bit
    is found where the file has a checksum: in checkpoints of robustcl, and in .pt and .pth files in
    the form of a zip archive, which torch itself does not check. In other files it is found where
    it makes the file unreadable or a number infinite, and not otherwise.

    Args:
        path: The file.

    Returns:
        At least one network.

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
        return networks_in(read_stored(place).tensors)
    try:
        _refuse_strangers(place)
        found = networks_in(_read(place))
        for network in found:
            _check_tensors(network.tensors)
    except CheckpointError:
        raise
    except FaultError as error:  # in words that follow the file's name
        raise CheckpointError(f"{str(place)!r} {error}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{str(place)!r} {_of_pickle(error)}") from error
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


def _read(place: Path) -> object:
    if place.suffix == ".safetensors":
        try:
            read_header(place)
        except ValueError as error:
            raise FaultError(f"{error}; copy it again") from error
        return load_file(place)
    try:
        check_memory(place.stat().st_size)
    except ValueError as error:
        raise FaultError(f"{error}; give a smaller file") from error
    check_archive(place)
    with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
        warnings.simplefilter(
            "ignore"
        )  # of kinds of tensors that are refused where they are wanted
        return torch.load(place, map_location="cpu", weights_only=True)


def _refuse_strangers(place: Path) -> None:
    with place.open("rb") as stream:
        start = stream.read(512)
    text = start.lstrip().lower()
    if start.startswith(_POINTER):
        raise FaultError("is a pointer of Git LFS, not the weights; fetch them by: git lfs pull")
    if text.startswith(_PAGES):
        raise FaultError(
            "is a web page saved in place of the weights; download the file itself (the raw link)"
        )
    kind = next((what for mark, what in _KINDS if start.startswith(mark)), None)
    kind = kind or _ENDINGS.get(place.suffix.lower())
    if kind is not None:
        raise FaultError(f"is {kind}; give weights that torch or safetensors saved")
    if zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            names = archive.namelist()[:MOST_ENTRIES]
        if any(name.endswith("/constants.pkl") for name in names):
            raise FaultError(
                "is a TorchScript program, whose code is not run on a file's word; save its "
                "state_dict(), or write a factory that loads it, and give FILE.py:factory"
            )
        if not any(name.endswith("data.pkl") for name in names):
            raise FaultError("is a zip archive without weights; unpack it first")


def _of_pickle(error: pickle.UnpicklingError) -> str:
    # What torch says names the class, and then advises to allow it, which is not passed on.
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    what = f" ({printable(named[1][:SHOWN])})" if named else ""
    return (
        f"holds more than tensors{what} and would run code when loaded; load it where it was "
        "made and save its state_dict() alone, or as .safetensors"
    )


def _check_tensors(found: Mapping[str, Tensor]) -> None:
    # A view of few numbers may claim to be many: by a stride of 0, or many views of the same ones.
    if len(found) > MOST_TENSORS:
        raise FaultError(f"holds {len(found):,} tensors, more than {MOST_TENSORS:,}")
    if any(value.is_quantized for value in found.values()):
        raise FaultError(
            "holds the tensors of a quantized network; give the weights from before that"
        )
    claimed, held = 0, dict[int, int]()
    for value in found.values():
        if not is_plain(value):
            continue  # refused where it is wanted
        claimed += value.numel() * value.element_size()
        storage = value.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
    if claimed > _TIMES * sum(held.values()) + _FREE_BYTES:
        raise FaultError(
            f"claims tensors of {claimed:,} bytes and holds {sum(held.values()):,}: its views "
            "repeat numbers; save contiguous copies"
        )
