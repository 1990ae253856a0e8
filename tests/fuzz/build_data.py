"""Build malformed images, arrays, parquet files and folders, as strangers bring them."""

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NOWHERE = "\x1b[31mred\x1b[0m\n=1+1 $\\frac{ | <b>`[x](http://a.b)"  # a name that acts everywhere
LARGE = 2_000_000_000  # bytes that a bomb unpacks to, where it may not be unpacked


def encoded(form: str = "PNG", *, size: tuple[int, int] = (8, 8), **options: Any) -> bytes:
    """A good image of one color in a format of Pillow."""
    stream = io.BytesIO()
    Image.new("RGB", size, (200, 100, 0)).save(stream, form, **options)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(
    width: int, height: int, *, data: bytes = b"", before: bytes = b"", color: int = 2
) -> bytes:
    """A PNG whose header says any size, with any pixels and any chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    parts = chunk(b"IHDR", header), before, chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def zeros(count: int) -> bytes:
    """So many zero bytes, deflated to a thousandth, in little memory."""
    packer = zlib.compressobj(9)
    whole, rest = divmod(count, 2**20)
    block = bytes(2**20)
    parts = [packer.compress(block) for _ in range(whole)]
    return b"".join([*parts, packer.compress(bytes(rest)), packer.flush()])


def jpeg(width: int, height: int, *, before: bytes = b"", progressive: bool = False) -> bytes:
    """A JPEG whose header says any size, with any segments before it."""
    content = bytearray(encoded("JPEG", progressive=progressive))
    place = content.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(content[:2]) + before + bytes(content[2:])


def gif(width: int, height: int, *, comments: int = 0) -> bytes:
    """A GIF whose header says any size, with 255-byte comments before its frame."""
    content = bytearray(encoded("GIF"))
    content[6:10] = struct.pack("<HH", width, height)
    place = 13 + (3 * 2 ** ((content[10] & 7) + 1) if content[10] & 128 else 0)
    block = b"!\xfe" + (b"\xff" + b"a" * 255) * comments + b"\0" if comments else b""
    return bytes(content[:place]) + block + bytes(content[place:])


def webp(width: int, height: int) -> bytes:
    """A lossless WebP whose header says any size up to 16,383."""
    content = bytearray(encoded("WEBP", lossless=True))
    place = content.index(b"VP8L") + 9
    bits = int.from_bytes(content[place : place + 4], "little") >> 28 << 28
    content[place : place + 4] = (bits | (width - 1) | (height - 1) << 14).to_bytes(4, "little")
    return bytes(content)


def tiff(width: int, height: int) -> bytes:
    """A TIFF whose tags say any size."""
    content = bytearray(encoded("TIFF"))
    start = int.from_bytes(content[4:8], "little")
    for number in range(int.from_bytes(content[start : start + 2], "little")):
        place = start + 2 + 12 * number
        tag = int.from_bytes(content[place : place + 2], "little")
        if tag in (256, 257):
            side = width if tag == 256 else height
            content[place + 2 : place + 12] = struct.pack("<HII", 4, 1, side)
    return bytes(content)


def tiff_of_a_tile(side: int = 40_000) -> bytes:
    """A small gray TIFF whose one tile is far larger, and deflated."""
    known = ((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1))
    known += (
        (277, 3, 1, 1),
        (322, 4, 1, side),
        (323, 4, 1, side),
        (324, 4, 1, 200),
        (325, 4, 1, 50),
    )
    entries = b"".join(struct.pack("<HHII", *entry) for entry in known)
    head = b"II*\0" + struct.pack("<IH", 8, len(known)) + entries + bytes(4)
    return head.ljust(200, b"\0") + zlib.compress(bytes(4096)).ljust(50, b"\0")


def tiff_of_tags(count: int = 20_000, size: int = 100_000) -> bytes:
    """A TIFF whose many tags all name the same bytes, which a decoder copies for each."""
    known = ((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1))
    known += ((273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 8), (279, 4, 1, 64))
    offset = 8 + 2 + 12 * count + 4
    more = [(1000 + k, 7, size, offset) for k in range(count - len(known))]
    entries = b"".join(struct.pack("<HHII", *entry) for entry in (*known, *more))
    return b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4) + bytes(size)


def eps() -> bytes:
    """An Encapsulated PostScript file, for which Pillow would start Ghostscript."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


def bad_images() -> dict[str, bytes]:
    """Images that are refused before anything is decoded, by kind."""
    text = chunk(b"zTXt", b"a\0\0" + zeros(10**7))
    return {
        "eps": eps(),
        "empty": b"",
        "text": b"hello",
        "png of 50,000 x 50,000": png(50_000, 50_000, data=b"x"),
        "png of no pixels": png(0, 0),
        "png that is cut": encoded()[:45],
        "png with a text bomb": png(8, 8, data=zeros(200), before=text),
        "png of many chunks": png(8, 8, before=chunk(b"teXt", b"") * 200_001),
        "jpeg of 65,000 x 65,000": jpeg(65_000, 65_000),
        "progressive jpeg of 65,000 x 65,000": jpeg(65_000, 65_000, progressive=True),
        "jpeg that is cut": encoded("JPEG")[:300],
        "jpeg of many segments": jpeg(8, 8, before=b"\xff\xed\0\x02" * 10_001),
        "jpeg filled up": jpeg(8, 8, before=b"\xff" * 10_001),
        "gif of 65,000 x 65,000": gif(65_000, 65_000),
        "gif of comments": gif(8, 8, comments=5_000),
        "webp of 16,383 x 16,383": webp(16_383, 16_383),
        "tiff of 50,000 x 50,000": tiff(50_000, 50_000),
        "tiff of a large tile": tiff_of_a_tile(),
        "tiff of many tags": tiff_of_tags(),
        "ppm of 50,000 x 50,000": b"P6 50000 50000 255\n",
        "ppm with a long header": b"P6\n#" + b"a" * 10_000,
    }


def npy(shape: str, *, dtype: str = "'|u1'", order: str = "False", data: bytes = b"") -> bytes:
    """A .npy file with any header, given as Python writes it."""
    header = f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}"
    padded = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + data


def npz(members: Mapping[str, bytes | np.ndarray], *, packed: bool = True) -> bytes:
    """An archive of arrays, or of what calls itself so."""
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, content in members.items():
            if not isinstance(content, bytes):
                own = io.BytesIO()
                np.save(own, content)
                content = own.getvalue()
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npz_bomb(size: int = LARGE) -> bytes:
    """An archive whose images unpack to so many zero bytes; made without unpacking them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    rows = size // 3072
    start = packer.compress(npy(f"({rows}, 32, 32, 3)")) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(3072 * 256)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(rows % 256 * 3072)) + packer.flush()
    packed = start + block * (rows // 256) + rest
    stored = bytearray(npz({"labels": np.zeros(rows, dtype=np.int64)}))
    archive = io.BytesIO(stored)
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as whole:
        whole.writestr("images.npy", packed)
    content = bytearray(archive.getvalue())
    # The entry says that it is deflated, and from how much.
    for head, method, length in ((b"PK\3\4", 8, 22), (b"PK\1\2", 10, 24)):
        place = content.rindex(b"images.npy")
        place = content.rindex(head, 0, place if head == b"PK\1\2" else content.index(packed))
        content[place + method : place + method + 2] = struct.pack("<H", zipfile.ZIP_DEFLATED)
        content[place + length : place + length + 4] = struct.pack("<I", 128 + 3072 * rows)
    return bytes(content)


def bad_npz() -> dict[str, bytes]:
    """Archives and arrays that are refused, by kind."""
    images, labels = np.zeros((4, 8, 8, 3), dtype=np.uint8), np.array([0, 1, 0, 1])
    good: dict[str, Any] = {"images": images, "labels": labels}
    floats = np.zeros((4, 8, 8, 3))
    encrypted = bytearray(npz(good))
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    twice = io.BytesIO(npz(good))
    with zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("images", b"")
    names = np.array(["a", "b"])
    changed: dict[str, dict[str, Any]] = {
        "shape beyond the file": {"images": npy("(10000000000, 8, 8, 3)")},
        "shape of a negative number": {"images": npy("(-4, 8, 8, 3)")},
        "shape of a huge number": {"images": npy(f"({10**400},)")},
        "shape of words": {"images": npy("('a',)")},
        "shape of empty images": {"images": npy("(0, 9999999999999, 9999999999999, 3)")},
        "header without an end": {"images": npy("((((" * 500)},
        "header cut short": {"images": npy("(4,)")[:40]},
        "other type": {"images": npy("(4,)", dtype="'no type'")},
        "objects": {"images": npy("(4,)", dtype="'|O'", data=bytes(64))},
        "records": {"images": npy("(4,)", dtype="[('a', '<i4')]", data=bytes(64))},
        "complex numbers": {"images": floats.astype(complex)},
        "truth values": {"images": images > 0},
        "numbers that are NaN": {"images": floats + np.nan},
        "numbers beyond 1": {"images": floats + 2.0},
        "times": {"images": images.astype("datetime64[s]")},
        "labels of fractions": {"labels": labels.astype(float)},
        "labels that are NaN": {"labels": labels + np.nan},
        "labels of -1 and others": {"labels": labels - 1},
        "labels beyond all": {"labels": labels.astype(np.uint64) + 2**63},
        "labels in a table": {"labels": np.zeros((4, 2), dtype=int)},
        "too few labels": {"labels": labels[:2]},
        "no number": {"images": np.zeros((), dtype=np.uint8)},
        "class names of numbers": {"class_names": labels},
        "class names in a table": {"class_names": names.reshape(1, 2)},
        "too few class names": {"class_names": names[:1]},
        "class names beyond Unicode": {"class_names": npy("(2,)", dtype="'<U1'", data=b"\xff" * 8)},
        "class names of bytes": {"class_names": np.array([b"\xff", b"a"])},
        "class names of half a pair": {"class_names": np.array(["\udc80", "a"])},
    }
    return {
        "0 bytes": b"",
        "a renamed npy": npy("(4, 8, 8, 3)", data=bytes(768)),
        "cut short": npz(good)[:-60],
        "encrypted": bytes(encrypted),
        "a name twice": twice.getvalue(),
        "no labels": npz({"images": images}),
        **{kind: npz({**good, **change}) for kind, change in changed.items()},
    }


def cell(content: bytes | None = None, path: str | None = None) -> dict[str, Any]:
    """An image as the Hugging Face hub stores it."""
    return {"bytes": content, "path": path}


def write_parquet(
    place: Path, images: Any, labels: Any, *, metadata: bytes | None = None, **options: Any
) -> Path:
    """Write a parquet file with the columns img and label."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"img": images, "label": labels})
    if metadata is not None:
        table = table.replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(table, place, **options)
    return place


def hub(feature: object) -> bytes:
    """Metadata of the hub that says this of the labels."""
    return json.dumps({"info": {"features": {"label": feature}}}).encode()


def bad_parquet() -> dict[str, Callable[[Path], Path]]:
    """Writers of parquet files that are refused, by kind."""
    import pyarrow as pa

    good = encoded()

    def images(*content: Any) -> Callable[[Path], Path]:
        return lambda place: write_parquet(place, list(content), [0] * len(content))

    def labels(stored: Any) -> Callable[[Path], Path]:
        return lambda place: write_parquet(place, [cell(good)], stored)

    def described(metadata: bytes) -> Callable[[Path], Path]:
        return lambda place: write_parquet(place, [cell(good)], [0], metadata=metadata)

    def nothing(place: Path) -> Path:
        place.write_bytes(b"")
        return place

    repeated = [cell(bytes(10**5))] * 300
    prefixed = {"use_dictionary": False, "column_encoding": {"img.bytes": "DELTA_BYTE_ARRAY"}}
    return {
        "0 bytes": nothing,
        "an image repeated 300 times": lambda p: write_parquet(p, repeated, [0] * 300),
        "prefixes": lambda p: write_parquet(p, [cell(good)] * 9, [0] * 9, **prefixed),
        "images of text": images("a.png"),
        "images of numbers": images(7),
        "images of lists": images([cell(good)]),
        "images of other fields": images({"a": 1}),
        "images within images": images({"bytes": {"bytes": good}}),
        "an image without content": images(cell(good), cell()),
        "an image that is none": images(cell(b"no image")),
        "path outside": images(cell(path="../../etc/passwd")),
        "absolute path": images(cell(path="/etc/passwd")),
        "path with a zero": images(cell(path="a\0b")),
        "path of a folder": images(cell(path=".")),
        "path too long": images(cell(path="a" * 5000)),
        "labels of fractions": labels([0.5]),
        "labels that are NaN": labels([float("nan")]),
        "labels of truth values": labels([True]),
        "labels that are null": labels([None]),
        "labels of lists": labels([[1]]),
        "labels below -1": labels([-2]),
        "labels beyond all": labels(pa.array([2**63], pa.uint64())),
        "labels of bad bytes": labels([b"\xff"]),
        "metadata is no JSON": described(b"{"),
        "metadata is deep": described(b"[" * 100_000),
        "metadata is a list": described(b"[1]"),
        "metadata is NaN": described(b"NaN"),
        "names of numbers": described(hub({"names": [1]})),
        "names in a table": described(hub({"names": {"0": "a"}})),
    }


def parquet_page_bomb(place: Path, size: int = LARGE) -> Path:
    """Write a page that unpacks to so many zero bytes; takes more memory than that."""
    return write_parquet(
        place, [cell(bytes(size))], [0], compression="zstd", use_dictionary=False,
        write_statistics=False,
    )  # fmt: skip


def page_header(unpacked: int, packed: int, *, encoding: int = 0) -> bytes:
    """The header of a data page of parquet that says any sizes."""

    def number(value: int) -> bytes:
        doubled, found = value << 1, b""
        while doubled > 127:
            found, doubled = found + bytes([doubled & 127 | 128]), doubled >> 7
        return found + bytes([doubled])

    inner = b"\x15" + number(1) + b"\x15" + number(encoding) + b"\0"
    return b"\x15\0\x15" + number(unpacked) + b"\x15" + number(packed) + b"\x2c" + inner + b"\0"


def image_folder(place: Path, classes: Sequence[str] = ("ant", "bee"), *, count: int = 3) -> Path:
    """Make a folder of classes with good images."""
    for name in classes:
        (place / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (place / name / f"{number}.png").write_bytes(encoded())
    return place


def odd_entries() -> dict[str, Callable[[Path], object]]:
    """Makers of what is no ordinary file, by kind."""
    return {
        "a named pipe": os.mkfifo,
        "a link to a device": lambda place: place.symlink_to("/dev/zero"),
        "a link to itself": lambda place: place.symlink_to(place.name),
        "a link to nowhere": lambda place: place.symlink_to("nowhere"),
    }
