"""Build damaged run folders."""

import io
import json
import shutil
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robustcl.records.json_file import write_sealed
from robustcl.records.reading import config_hash
from tests.fuzz.build_parts import DEEP, Cases, archive, flipped, without


def run_folders(folder: Path, sound: Path) -> Cases:
    """Copy a run folder again and again, each with one thing damaged that a report reads.

    Checksums are right wherever a field of the manifest is changed.

    Args:
        folder: Where.
        sound: A complete run folder of this version.

    Yields:
        What is wrong, and the copy.
    """
    manifest = json.loads((sound / "manifest.json").read_text())
    number = 0
    for what, change in _wrong_manifests(manifest).items():
        place = folder / f"run-{number}"
        number += 1
        shutil.copytree(sound, place)
        write_sealed(place / "manifest.json", change)
        yield what, place
    for what, name, content in (
        ("empty manifest", "manifest.json", b""),
        ("manifest nested deeply", "manifest.json", b"[" * DEEP),
        ("manifest is a list", "manifest.json", b"[]"),
        ("manifest is not UTF-8", "manifest.json", b"\xff"),
        ("records are not JSON", "records-0.jsonl", b"{]\n"),
        ("records nested deeply", "records-0.jsonl", b"[" * DEEP + b"\n"),
        ("records of lists", "records-0.jsonl", b"[1]\n"),
        ("records of zeros", "records-0.jsonl", bytes(1000) + b"\n"),
    ):
        place = folder / f"run-{number}"
        number += 1
        shutil.copytree(sound, place)
        (place / name).write_bytes(content)
        yield what, place


def _wrong_manifests(manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    values: Mapping[str, Any] = {"text": "x", "number": 1.5, "list": [[1]], "table": {"a": [1]}}
    found: dict[str, dict[str, Any]] = {"schema 99": {**manifest, "schema": 99}}
    for name in ("seconds", "versions", "hashes", "claims", "attacks", "class_names", "sessions",
                 "num_examples", "image_shape", "complete", "flags", "arrays", "rows"):  # fmt: skip
        for what, value in values.items():
            if (name, what) not in {("seconds", "number")}:
                found[f"{name} {what}"] = {**manifest, name: value}
    for name in ("norm", "methods", "attacks", "eps", "num_examples"):
        for what, value in values.items():
            config = {**manifest["config"], name: value}
            hashed = {"config": config, "config_hash": config_hash(config)}
            found[f"config {name} {what}"] = {**manifest, **hashed}
    for cell in ("..", "/etc", "a//b", "a/../..", ""):
        found[f"cells {cell!r}"] = {**manifest, "suite": "s", "cells": [cell]}
    return found


def damaged_arrays(folder: Path, sound: Path) -> Cases:
    """Copy a run folder again and again, each with one file of arrays damaged.

    A report leaves such a file out with a sentence and ends well; `--resume` computes it again.

    Args:
        folder: Where.
        sound: A complete run folder with arrays.

    Yields:
        What is wrong, and the copy.
    """
    number = 0
    for place in sorted((sound / "arrays").glob("*.npz")):
        for what, content in _wrong_arrays(place).items():
            copy = folder / f"arrays-{number}"
            number += 1
            shutil.copytree(sound, copy)
            (copy / "arrays" / place.name).write_bytes(content)
            yield f"{place.name} {what}", copy


def _wrong_arrays(place: Path) -> dict[str, bytes]:
    with np.load(place) as stored:
        arrays = {key: stored[key] for key in stored.files}
    content = place.read_bytes()
    key = "index"
    return {
        "empty": b"",
        "zeros": bytes(100),
        "text": b"no arrays",
        "cut": content[: len(content) // 2],
        "a flipped bit": flipped(content, _within(place)),
        "a renamed npy": _npy(arrays[key]),
        "a pickle": _saved({**arrays, key: np.array([{}, None], dtype=object)}),
        "texts": _saved({**arrays, key: np.array(["a", "b"])}),
        "halves": _saved({**arrays, key: arrays[key] + 0.5}),
        "negative": _saved({**arrays, key: arrays[key] - 10**6}),
        "complex": _saved({**arrays, key: arrays[key] * 1j}),
        "no axis": _saved({**arrays, key: np.array(3)}),
        "two axes": _saved({**arrays, key: arrays[key][:, None]}),
        "too short": _saved({**arrays, key: arrays[key][:1]}),
        "no index": _saved(without(arrays, key)),
        "only an index": _saved({key: arrays[key]}),
        "nothing": _saved({}),
        "a bomb": _bomb(),
        "not arrays": archive({"a.txt": b"b"}),
        "header nested deeply": archive({"index.npy": _npy_header("(" * 3000)}),
        "header of 10^15 numbers": archive({"index.npy": _npy_header("(1000000000000000,)")}),
    }


def _within(place: Path) -> int:
    # A byte of the largest array; the length of what lies before it stands in its own header.
    with zipfile.ZipFile(place) as opened:
        entry = max(opened.infolist(), key=lambda info: info.compress_size)
    start = entry.header_offset
    lengths = struct.unpack("<HH", place.read_bytes()[start + 26 : start + 30])
    return start + 30 + sum(lengths) + entry.compress_size * 3 // 4


def _saved(arrays: Mapping[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]
    return stream.getvalue()


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _npy_header(shape: str) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _bomb() -> bytes:
    body = _npy_header("(40000000,)") + bytes(32 * 10**7)
    return archive({"index.npy": body}, zipfile.ZIP_DEFLATED)
