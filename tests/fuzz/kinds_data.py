"""Spoil data sets: arrays, tables, folders and images."""

import io
import random
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.fuzz.case import Case
from tests.fuzz.kinds_files import FINE
from tests.fuzz.mutations import spoiled_bytes
from tests.fuzz.registry import kind

EPS_FILE = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
(owned) (w) file closefile
showpage
"""


def of_data(draws: random.Random, folder: Path, good: Path, data: str, **options: Any) -> Case:
    """Give data to one of the commands that read it."""
    shutil.copy(good / "model.safetensors", folder)
    model = "model.safetensors"
    codes = options.pop("codes", FINE)
    cases = (
        Case("robustcl", ["embed", model, "--data", data, "--out", "out.npz"], codes, out="out.npz",
             **options),
        Case("robustcl", ["probe", model, "--data", data, "--out", "out.safetensors", "--quiet"],
             codes, out="out.safetensors", **options),
        Case("certify", ["run", model, "--data", data, "--out", "out", "--plan", "1", "--methods",
                         "none", "--attack", "none", "--limit", "2", "--quiet"], codes, **options),
    )  # fmt: skip
    return draws.choice((cases[0], *cases))


def png(width: int, height: int, rows: bytes = b"", *, depth: int = 8, color: int = 0) -> bytes:
    """Make a PNG whose header states any size, with these compressed rows."""

    def chunk(name: bytes, content: bytes) -> bytes:
        whole = name + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def strange_image(draws: random.Random) -> bytes:
    """Make an image that is no image of 8 x 8 pixels."""
    stream = io.BytesIO()

    def saved(image: Image.Image, form: str) -> bytes:
        image.save(stream, format=form)
        return stream.getvalue()

    gray = Image.new("L", (8, 8), 90)
    choices: list[Callable[[], bytes]] = [
        lambda: EPS_FILE,
        lambda: png(50_000, 50_000, zlib.compress(bytes(10**6))),
        lambda: png(1, 60_000, zlib.compress(bytes(2 * 60_000))),
        lambda: png(0, 0),
        lambda: png(8, 8, b"not zlib"),
        lambda: png(8, 8, zlib.compress(bytes(10))),
        lambda: png(2**31 - 1, 2**31 - 1),
        lambda: saved(Image.new("I;16", (8, 8)), "PNG"),
        lambda: saved(gray.convert("CMYK"), "JPEG"),
        lambda: saved(gray.convert("1"), "PNG"),
        lambda: saved(gray.convert("LA"), "PNG"),
        lambda: saved(gray.convert("P"), "GIF"),
        lambda: saved(gray.resize((9, 7)), "PNG"),
        lambda: saved(gray.convert("RGBA"), "PNG"),
        lambda: saved(gray, "BMP"),
        lambda: saved(gray.convert("F"), "TIFF"),
        lambda: spoiled_bytes(draws, saved(gray, "PNG")),
        lambda: spoiled_bytes(draws, saved(gray.convert("RGB"), "JPEG")),
        lambda: b"%PDF-1.4\n1 0 obj\n",
        lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        lambda: b"SIMPLE  =                    T",
        lambda: b"",
    ]
    return draws.choice(choices)()


@kind("images in class folders", share=3)
def photos(draws: random.Random, folder: Path, good: Path) -> Case:
    shutil.copytree(good / "photos", folder / "photos")
    places = sorted((folder / "photos").rglob("*.png"))
    for _ in range(draws.randint(1, 2)):
        draws.choice(places).write_bytes(strange_image(draws))
    size = draws.choice(("", "", ",size=8", ",size=512", ",size=1"))
    return of_data(draws, folder, good, f"imagefolder:photos{size}")


@kind("class folders with strange names and links")
def strange_folders(draws: random.Random, folder: Path, good: Path) -> Case:
    shutil.copytree(good / "photos", folder / "photos")
    train = folder / "photos" / "train"
    action = draws.randrange(9)
    odd = draws.choice((
        "\x1b[2J\x1b[31m",
        "a\nb",
        "\u202eabc",
        "$\\frac{",
        "=1+1",
        "%s",
        " ",
        "." * 100,
    ))
    if action == 0:
        (train / "ant").rename(train / odd)
    elif action == 1:
        (folder / "photos" / "test" / "ant").rename(folder / "photos" / "test" / odd)
    elif action == 2:
        shutil.rmtree(train / "ant")
    elif action == 3:
        shutil.rmtree(train)
    elif action == 4:
        (train / "ant" / "loop").symlink_to("..")
        (train / "loop").symlink_to(".")
    elif action == 5:
        (train / "ant" / "away.png").symlink_to("/etc/passwd")
    elif action == 6:
        (train / "ant" / "none.png").symlink_to("nowhere.png")
    elif action == 7:
        place = sorted((train / "ant").glob("*.png"))[0]
        place.rename(place.with_name(odd.replace("/", "") + ".png"))
    else:
        for place in list(train.rglob("*.png")):
            place.unlink()
    return of_data(draws, folder, good, "imagefolder:photos")


@kind("tables of images: bytes", share=1.5)
def parquet_bytes(draws: random.Random, folder: Path, good: Path) -> Case:
    shutil.copytree(good / "tables", folder / "tables")
    place = folder / "tables" / draws.choice(("train.parquet", "test.parquet"))
    place.write_bytes(spoiled_bytes(draws, place.read_bytes()))
    return of_data(draws, folder, good, "parquet:tables")


@kind("tables of images: columns", share=2)
def parquet_columns(draws: random.Random, folder: Path, good: Path) -> Case:
    shutil.copytree(good / "tables", folder / "tables")
    place = folder / "tables" / draws.choice(("train.parquet", "test.parquet"))
    table = pq.read_table(place)
    images, labels = table["image"].to_pylist(), table["label"].to_pylist()
    count = len(labels)
    metadata = dict(table.schema.metadata or {})
    columns: dict[str, Any] = {"image": images, "label": labels}
    changes: list[Callable[[], Any]] = [
        lambda: columns.pop("label"),
        lambda: columns.pop("image"),
        lambda: columns.update(label=[None] * count),
        lambda: columns.update(label=[*labels[:-1], None]),
        lambda: columns.update(label=[float("nan")] * count),
        lambda: columns.update(label=[2**40 + k for k in range(count)]),
        lambda: columns.update(label=[-5] * count),
        lambda: columns.update(label=[[k] for k in labels]),
        lambda: columns.update(label=["\x1b[2J"] * count),
        lambda: columns.update(image=[None] * count),
        lambda: columns.update(image=["text"] * count),
        lambda: columns.update(image=[{"bytes": None, "path": "../../../etc/passwd"}] * count),
        lambda: columns.update(image=[{"bytes": None, "path": "/etc/passwd"}] * count),
        lambda: columns.update(image=[{"bytes": strange_image(draws), "path": "x"}] * count),
        lambda: columns.update(image=[{"path": "x.png"}] * count),
        lambda: columns.update(image=[{"bytes": b"", "path": "x"}] * count),
        lambda: columns.update(second=images),
        lambda: metadata.update({b"huggingface": b"{"}),
        lambda: metadata.update({b"huggingface": b'{"info":{"features":{"label":{"names":7}}}}'}),
        lambda: metadata.update({b"huggingface": b'{"info":' + b"[" * 5000}),
        lambda: metadata.update({
            b"huggingface": b'{"info":{"features":{"label":{"names":["a","a"]}}}}'
        }),
    ]
    draws.choice(changes)()
    made = pa.table(columns) if columns else pa.table({"x": [1]})
    pq.write_table(made.replace_schema_metadata(metadata), place)
    return of_data(draws, folder, good, "parquet:tables")


@kind("tables of images: a bomb")
def parquet_bomb(draws: random.Random, folder: Path, good: Path) -> Case:
    (folder / "tables").mkdir()
    one = pa.array([bytes(2**20)])  # stored once, and meant 3,000 times
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(3000, np.int32)), one)
    table = pa.table({"image": column, "label": [0] * 3000})
    for split in ("train", "test"):
        place = folder / "tables" / f"{split}.parquet"
        pq.write_table(table, place, compression="zstd", store_schema=False)
    return of_data(draws, folder, good, "parquet:tables", codes=frozenset({2}))


@kind("arrays: contents", share=2)
def npz_contents(draws: random.Random, folder: Path, good: Path) -> Case:
    with np.load(good / "data.npz") as found:
        arrays: dict[str, Any] = {name: found[name] for name in found.files}
    images, labels = arrays["images"], arrays["labels"]
    changes: list[Callable[[], Any]] = [
        lambda: arrays.pop(draws.choice(("images", "labels"))),
        lambda: arrays.update(images=images[:-1]),
        lambda: arrays.update(images=images[:0], labels=labels[:0]),
        lambda: arrays.update(
            images=images.astype(np.float64) * draws.choice((1.0, np.nan, 1e300))
        ),
        lambda: arrays.update(
            images=images.astype(draws.choice((">f4", "<c8", "?", "<i8", "<f2")))
        ),
        lambda: arrays.update(images=np.zeros(draws.choice(((60,), (60, 8), (60, 8, 8, 1, 1))))),
        lambda: arrays.update(images=np.zeros((60, 0, 8, 1), np.uint8)),
        lambda: arrays.update(images=np.array([{}] * 60, dtype=object)),
        lambda: arrays.update(labels=labels.astype(float) + draws.choice((0.5, np.nan, np.inf))),
        lambda: arrays.update(labels=labels - draws.choice((1, 5, 10**12))),
        lambda: arrays.update(labels=labels.astype(np.uint64) + np.uint64(2**63)),
        lambda: arrays.update(labels=labels[:, None]),
        lambda: arrays.update(labels=np.array(["\x1b[2J", "b", "a\nb"])[labels]),
        lambda: arrays.update(labels=np.array([None] * 60, dtype=object)),
        lambda: arrays.update(class_names=np.array(["a", "a", "a"])),
        lambda: arrays.update(class_names=np.array(["\x1b[2J", "b", "\n"])),
        lambda: arrays.update(class_names=np.array([1.0, 2.0])),
        lambda: arrays.update(class_names=np.array([["a"]])),
        lambda: arrays.update(class_names=np.array([], str)),
    ]
    draws.choice(changes)()
    np.savez(folder / "bad.npz", **arrays)
    return of_data(draws, folder, good, "npz:bad.npz")


@kind("arrays: the archive", share=1.5)
def npz_archive(draws: random.Random, folder: Path, good: Path) -> Case:
    place = folder / "bad.npz"
    action = draws.randrange(5)
    if action == 0:
        place.write_bytes(spoiled_bytes(draws, (good / "data.npz").read_bytes()))
    elif action == 1:
        np.save(folder / "bad.npy", np.zeros((60, 8, 8, 1)))
        (folder / "bad.npy").rename(place)
    else:
        shape = draws.choice(("(9000000000, 8, 8, 1)", "(60, -8, 8, 1)", "(60, 10**9, 8, 1)", "()"))
        kinds = draws.choice(("|u1", "<f8", "|O", "<U999999999", "[('a', '<f8')]", "|V99999999"))
        text = f"{{'descr': {kinds!r}, 'fortran_order': False, 'shape': {shape}, }}"
        header = text.encode().ljust(117) + b"\n"
        npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
            body = bytes(64 * 60) if action < 4 else bytes(80 * 2**20)
            archive.writestr("images.npy", npy + body)
            stream = io.BytesIO()
            np.save(stream, np.arange(60) % 3)
            archive.writestr("labels.npy", stream.getvalue())
            if draws.random() < 0.3:
                archive.writestr("labels.npy", b"twice")
    return of_data(draws, folder, good, "npz:bad.npz")
