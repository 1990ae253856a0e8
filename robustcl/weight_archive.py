"""Check the zip archive that a .pth file is, before torch reads it."""

import zipfile
from pathlib import Path

from robustcl.core.errors import CheckpointError

MOST_ENTRIES = 200_000
TIMES = 4  # bytes that entries may become for each byte of the archive; torch does not compress
FREE_BYTES = 2**20  # what they may become besides
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
        if whole > TIMES * size + FREE_BYTES:
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
