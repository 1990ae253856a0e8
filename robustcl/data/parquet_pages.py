"""Follow the pages of a parquet column, to know what reading it takes before it is read.

The footer's sizes are what a file says of itself; pages are unpacked by the sizes in their own
headers, and those are read here. The footer is read here too: asked for a damaged one, pyarrow ends
the process. Both are structs in the compact protocol of Apache Thrift.
"""

from dataclasses import dataclass
from typing import Any, BinaryIO

LENGTHS = 6  # DELTA_LENGTH_BYTE_ARRAY
PREFIXES = 7  # DELTA_BYTE_ARRAY, in which few bytes can stand for very many
FIRST_READ, LONGEST_HEADER = 2**12, 2**24
BOOLEANS, BYTE, INTEGERS, DOUBLE, BINARY, LISTS, STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 12
LONG_LIST, DEEPEST = 15, 12


@dataclass(frozen=True)
class Pages:
    """Sum up the pages of a column chunk.

    Args:
        unpacked: Bytes of all pages when unpacked.
        encodings: Numbers of the encodings of their values.
    """

    unpacked: int
    encodings: frozenset[int]


@dataclass(frozen=True)
class Chunk:
    """State where a column of a row group lies, as the footer has it.

    Args:
        start: Place of its first page.
        size: Bytes of its pages, packed, with their headers.
    """

    start: int
    size: int


@dataclass(frozen=True)
class Group:
    """State a row group.

    Args:
        rows: Its rows.
        chunks: By path of the stored column, as 'img.bytes'.
    """

    rows: int
    chunks: dict[str, Chunk]


def read_footer(stream: BinaryIO) -> list[Group]:
    """Read what the footer says of the row groups.

    Args:
        stream: The file.

    Returns:
        The row groups.

    Raises:
        ValueError: When the footer is none, or places lie outside the file.
    """
    size = stream.seek(0, 2)
    stream.seek(max(size - 8, 0))
    end = stream.read(8)
    length = int.from_bytes(end[:4], "little")
    if end[4:] != b"PAR1" or length > size - 8:
        raise ValueError("it has no footer")
    stream.seek(size - 8 - length)
    try:
        footer, _ = _struct(stream.read(length), 0, 0)
        return [_group(group, size) for group in footer.get(4, [])]
    except (IndexError, TypeError, AttributeError, KeyError) as error:
        raise ValueError("its footer is damaged") from error


def _group(stored: dict[int, Any], size: int) -> Group:
    chunks = {}
    for column in stored[1]:
        about = column[3]
        path = ".".join(part.decode() for part in about[3])
        start, first = about[9], about.get(11) or 0
        chunk = Chunk(first if 0 < first < start else start, about[7])
        if chunk.start < 0 or chunk.size < 0 or chunk.start + chunk.size > size:
            raise ValueError(f"column {path!r} lies outside the file")
        chunks[path] = chunk
    return Group(int(stored[3]), chunks)


def read_pages(stream: BinaryIO, chunk: Chunk) -> Pages:
    """Read the headers of all pages of a column chunk.

    Args:
        stream: The file.
        chunk: Where it lies.

    Returns:
        What they take.

    Raises:
        ValueError: When a header is no header, or a page leaves the chunk.
    """
    start, size = chunk.start, chunk.size
    place, unpacked = start, 0
    encodings: set[int] = set()
    while place < start + size:
        header, length = _header(stream, place, start + size - place)
        kind, whole, packed = (header.get(number) for number in (1, 2, 3))
        if not (isinstance(kind, int) and isinstance(whole, int) and isinstance(packed, int)):
            raise ValueError(f"the page at byte {place} has no kind or no size")
        if whole < 0 or packed < 0 or place + length + packed > start + size:
            raise ValueError(f"the page at byte {place} has an impossible size")
        encodings |= {_inner(header.get(5), 2), _inner(header.get(8), 4)} - {None}
        unpacked += whole
        place += length + packed
    return Pages(unpacked, frozenset(encodings))


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
        return content[place : place + length], place + length
    if kind in LISTS and depth < DEEPEST:
        return _list(content, place, depth + 1)
    if kind == STRUCT and depth < DEEPEST:
        return _struct(content, place, depth + 1)
    raise ValueError("a value has a type that is none")


def _list(content: bytes, place: int, depth: int) -> tuple[list[Any], int]:
    count, kind = content[place] >> 4, content[place] & 15
    place += 1
    if count == LONG_LIST:
        count, place = _unsigned(content, place)
    found = []
    for _ in range(count):
        if kind in BOOLEANS:  # in a list, unlike in a struct, a byte of its own
            item, place = content[place], place + 1
        else:
            item, place = _value(content, place, kind, depth)
        found.append(item)
    return found, place


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
            raise ValueError("a number has no end")
