"""Refuse image files whose structure would keep a decoder busy before the first pixel.

Each check follows a file's own chain of blocks, without their content. Decoders take time or memory
that grows with the square of the file where the chain was made for it.
"""

import io
from collections.abc import Callable
from typing import BinaryIO

MOST_BLOCKS = 200_000  # of a PNG; writers make one for every 4 kB or more
MOST_SEGMENTS = 10_000  # of a JPEG, before its pixels
MOST_BEFORE = 2**20  # bytes of comments and the like before the first frame of a GIF
_MOST_HEADER = 4096  # bytes of a PPM's header, with comments
TIFF_SIZES = (1, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 2, 8, 8, 8, 8)  # bytes by type of a value


def objection_to_head(stream: BinaryIO) -> str | None:
    """Say what is wrong with the structure of an image file.

    Args:
        stream: The file; it is left at its start.

    Returns:
        The objection; None where there is none, or where the decoder will say it.
    """
    start = stream.read(16)
    size = stream.seek(0, io.SEEK_END)
    for magic, check in CHECKS.items():
        if start.startswith(magic):
            stream.seek(0)
            found = check(stream, size)
            break
    else:
        found = None
    stream.seek(0)
    return found


def _png(stream: BinaryIO, size: int) -> str | None:
    place = 8
    for _ in range(MOST_BLOCKS):
        stream.seek(place)
        head = stream.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return None
        place += 12 + int.from_bytes(head[:4])
        if place > size:
            return None
    return f"it has more than {MOST_BLOCKS:,} blocks"


def _jpeg(stream: BinaryIO, size: int) -> str | None:
    place = 2
    for _ in range(MOST_SEGMENTS):
        stream.seek(place)
        head = stream.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] == 0xDA or place > size:
            return None  # the pixels, the end, or what the decoder will refuse
        place += 1 if head[1] == 0xFF else 2 + int.from_bytes(head[2:])
    return f"more than {MOST_SEGMENTS:,} segments stand before its pixels"


def _gif(stream: BinaryIO, size: int) -> str | None:
    del size
    head = stream.read(MOST_BEFORE)
    if len(head) < 13:
        return None
    place = 13 + _palette(head[10])
    while place < len(head):
        if head[place] != ord("!"):
            return None  # a frame, the end, or what the decoder will refuse
        place += 2
        while place < len(head) and head[place]:
            place += 1 + head[place]
        place += 1
    whole = len(head) < MOST_BEFORE
    return None if whole else f"more than {MOST_BEFORE:,} bytes stand before its first frame"


def _palette(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 128 else 0


def _ppm(stream: BinaryIO, size: int) -> str | None:
    head = stream.read(_MOST_HEADER)
    lines = head.replace(b"\r", b"\n").split(b"\n")
    words = b" ".join(line.partition(b"#")[0] for line in lines).split()
    if len(words) < 4 and size > _MOST_HEADER:
        return f"its header has more than {_MOST_HEADER:,} bytes"
    return None


def _tiff(stream: BinaryIO, size: int) -> str | None:
    # Each entry names bytes of the file; honest entries share none, so they fit into it together.
    head = stream.read(16)
    order = "little" if head[:2] == b"II" else "big"
    big = 43 in (head[2], head[3])
    count_size, entry_size, offset = (8, 20, head[8:16]) if big else (2, 12, head[4:8])
    place, named, seen = int.from_bytes(offset, order), 0, 0
    stream.seek(min(place, size))
    count = int.from_bytes(stream.read(count_size), order)
    for _ in range(min(count, size // entry_size)):
        entry = stream.read(entry_size)
        kind = int.from_bytes(entry[2:4], order)
        values = int.from_bytes(entry[4 : 12 if big else 8], order)
        named += values * (TIFF_SIZES[kind] if kind < len(TIFF_SIZES) else 1)
        seen += entry_size
    if named > size + seen:
        return f"its tags name {named:,} bytes, more than the {size:,} of the file"
    return None


CHECKS: dict[bytes, Callable[[BinaryIO, int], str | None]] = {
    b"\x89PNG": _png,
    b"\xff\xd8\xff": _jpeg,
    b"GIF8": _gif,
    **{f"P{kind}".encode(): _ppm for kind in "123456"},
    b"II": _tiff,
    b"MM": _tiff,
}
