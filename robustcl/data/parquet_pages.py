"""Follow the pages of a parquet column, to know what reading it takes before it is read.

The footer's sizes are what a file says of itself; pages are unpacked by the sizes in their own
headers, and those are read here. A header is a struct in the compact protocol of Apache Thrift.
"""

from dataclasses import dataclass
from typing import Any, BinaryIO

DICTIONARY_PAGE = 2
PREFIXES = 7  # DELTA_BYTE_ARRAY, in which few bytes can stand for very many
FIRST_READ, LONGEST_HEADER = 2**12, 2**24
BOOLEANS, BYTE, INTEGERS, DOUBLE, BINARY, STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, 12


@dataclass(frozen=True)
class Pages:
    """Sum up the pages of a column chunk.

    Args:
        unpacked: Bytes of all pages when unpacked.
        prefixes: Whether values are stored as what they add to the one before.
    """

    unpacked: int
    prefixes: bool


def read_pages(stream: BinaryIO, start: int, size: int) -> Pages:
    """Read the headers of all pages of a column chunk.

    Args:
        stream: The file.
        start: Place of the first page.
        size: Bytes of all pages, packed, with their headers.

    Returns:
        What they take.

    Raises:
        ValueError: When a header is no header, or a page leaves the chunk.
    """
    place, unpacked, prefixes = start, 0, False
    while place < start + size:
        header, length = _header(stream, place, start + size - place)
        kind, whole, packed = (header.get(number) for number in (1, 2, 3))
        if not (isinstance(kind, int) and isinstance(whole, int) and isinstance(packed, int)):
            raise ValueError(f"the page at byte {place} has no kind or no size")
        if whole < 0 or packed < 0 or place + length + packed > start + size:
            raise ValueError(f"the page at byte {place} has an impossible size")
        encodings = (_inner(header.get(5), 2), _inner(header.get(8), 4))
        prefixes = prefixes or PREFIXES in encodings
        unpacked += whole
        place += length + packed
    return Pages(unpacked, prefixes)


def _inner(struct: Any, number: int) -> Any:
    return struct.get(number) if isinstance(struct, dict) else None


def _header(stream: BinaryIO, place: int, most: int) -> tuple[dict[int, Any], int]:
    # Statistics within a header hold values, so that it may be long.
    count = FIRST_READ
    while True:
        stream.seek(place)
        content = stream.read(min(count, most))
        try:
            return _struct(content, 0, 0)
        except IndexError as error:
            if count >= min(most, LONGEST_HEADER):
                raise ValueError(f"the page at byte {place} has no end of its header") from error
            count *= 8


def _struct(content: bytes, place: int, depth: int) -> tuple[dict[int, Any], int]:
    found: dict[int, Any] = {}
    number = 0
    while content[place]:
        more, kind = content[place] >> 4, content[place] & 15
        place += 1
        if more:
            number += more
        else:
            number, place = _integer(content, place)
        found[number], place = _value(content, place, kind, depth)
    return found, place + 1


def _value(content: bytes, place: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in BOOLEANS:
        return kind == BOOLEANS[0], place
    if kind == BYTE:
        return content[place], place + 1
    if kind in INTEGERS:
        return _integer(content, place)
    if kind == DOUBLE:
        return None, place + 8
    if kind == BINARY:
        length, place = _unsigned(content, place)
        return None, place + length
    if kind == STRUCT and depth < 4:
        return _struct(content, place, depth + 1)
    raise ValueError("a page has no header that can be read")


def _integer(content: bytes, place: int) -> tuple[int, int]:
    value, place = _unsigned(content, place)
    return (value >> 1) ^ -(value & 1), place


def _unsigned(content: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError("a page has a number without an end")
