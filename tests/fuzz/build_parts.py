"""What builders of malformed files share."""

import io
import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Case = tuple[str, Path]  # what is wrong, and where it lies
Cases = Iterator[Case]
PREAMBLE = 8
DEEP = 100_000
HUGE = 10**9
NUMBERS: Mapping[str, str] = {  # as JSON spells them
    "NaN": "NaN",
    "infinite": "-Infinity",
    "of 400 digits": "9" * 400,
    "of 5000 digits": "9" * 5000,
    "1e999": "1e999",
    "text": '"7"',
    "null": "null",
    "true": "true",
    "list": "[1]",
    "table": '{"a": 1}',
    "negative": "-3",
    "half": "0.5",
    "surrogate": '"\\ud800"',
    "escape": '"\\u001b[2J\\n"',
}


def header_of(place: Path) -> tuple[dict[str, Any], bytes]:
    """Read a safetensors file without any check.

    Args:
        place: A sound file.

    Returns:
        Its header, and the bytes of its tensors.
    """
    content = place.read_bytes()
    length = int.from_bytes(content[:PREAMBLE], "little")
    return json.loads(content[PREAMBLE : PREAMBLE + length]), content[PREAMBLE + length :]


def with_header(header: object, body: bytes) -> bytes:
    """Put a header before the bytes of tensors.

    Args:
        header: Plain values, or JSON in bytes as it is to stand.
        body: The bytes.

    Returns:
        The content of a file.
    """
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def without(entries: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Leave one entry out."""
    return {key: value for key, value in entries.items() if key != name}


def nested(levels: int, key: str = "a") -> dict[str, Any]:
    """Nest tables."""
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {key: found}
    return found


def nested_lists(levels: int) -> list[Any]:
    """Nest lists."""
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


def archive(entries: Mapping[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    """Write a zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as opened:
        for name, content in entries.items():
            opened.writestr(name, content)
    return stream.getvalue()


def flipped(content: bytes, where: int) -> bytes:
    """Flip a bit of a byte."""
    return content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :]


def named(folder: Path, kind: str, ending: str, cases: Mapping[str, Any]) -> Cases:
    """Name the files that were written in this order."""
    for number, what in enumerate(cases):
        yield what, folder / f"{kind}-{number}{ending}"
