"""Build malformed checkpoints and safetensors files."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from robustcl.core.hashes import checksum
from robustcl.models.stored_file import DESCRIPTION_KEY, STORED_CHECKSUM
from tests.fuzz.build_parts import (
    DEEP,
    HUGE,
    NUMBERS,
    Cases,
    header_of,
    named,
    nested,
    with_header,
    without,
)


def signed(text: str, tensors: Mapping[str, Tensor]) -> bytes:
    """Write a checkpoint with a right checksum, whatever its description says.

    Args:
        text: The description in JSON.
        tensors: By name.

    Returns:
        The content of the file.
    """
    metadata = {DESCRIPTION_KEY: text, STORED_CHECKSUM: checksum(text, tensors)}
    return save(
        {name: value.contiguous().clone() for name, value in tensors.items()}, metadata=metadata
    )


def safetensors_files(folder: Path, sound: Path) -> Cases:
    """Write files whose safetensors header is not sound, or does not fit what follows.

    Args:
        folder: Where.
        sound: A sound file.

    Yields:
        What is wrong, and the file.
    """
    content, (header, body) = sound.read_bytes(), header_of(sound)
    name = next(key for key in header if key != "__metadata__")
    entry = header[name]

    def entries(**changes: Any) -> bytes:
        return with_header({**header, name: {**entry, **changes}}, body)

    end = len(body)
    cases = {
        "empty": b"",
        "7 bytes": content[:7],
        "header longer than the file": struct.pack("<Q", 2**63 - 1) + content[8:],
        "header length of all ones": b"\xff" * 8 + content[8:],
        "cut in the header": content[:100],
        "cut in the tensors": content[:-5],
        "more behind": content + b"\0" * 64,
        "zeros": bytes(4096),
        "header is a list": with_header([], body),
        "header is nested deeply": with_header(b"[" * DEEP, body),
        "tables nested deeply": with_header(b'{"a":' * DEEP, body),
        "header is not UTF-8": with_header(b'{"\xff\xfe": 1}', body),
        "header of blanks": with_header(b" " * 1000, body),
        "key twice": with_header(
            json.dumps(header)[:-1].encode() + f", {json.dumps(name)}: {{}}}}".encode(), body
        ),
        "metadata is a list": with_header({**header, "__metadata__": [1]}, body),
        "metadata holds a number": with_header({**header, "__metadata__": {"a": 1}}, body),
        "metadata is a number": with_header({**header, "__metadata__": 5}, body),
        "entry is a text": with_header({**header, name: "F32"}, body),
        "no type": with_header({**header, name: {"shape": [1], "data_offsets": [0, 4]}}, body),
        "a million lists": with_header(b"[" + b"[],[]," * 600_000 + b"[]]", b""),
        "sides of 1": entries(shape=[1] * 5000),
        "offsets backwards": entries(data_offsets=entry["data_offsets"][::-1] or [4, 0]),
        "offsets beyond the end": entries(data_offsets=[0, end + 10**12]),
        "offsets overlap": entries(data_offsets=[4, 8]),
    }
    for kind in ("F4", "F6_E2M3", "F8_E8M0", "F128", "", None, 3, "f32", "\x1b[31m"):
        cases[f"type {kind!r}"] = entries(dtype=kind)
    for shape in ([-1], [HUGE], [2**62, 2**62], [0.5], ["1"], "12", None, {}, [10**30], [[1]]):
        cases[f"shape {shape!r}"] = entries(shape=shape)
    for number, content in enumerate(cases.values()):
        (folder / f"header-{number}.safetensors").write_bytes(content)
    yield from named(folder, "header", ".safetensors", cases)


def checkpoints(folder: Path, sound: Path) -> Cases:
    """Write checkpoints with right checksums whose description is wrong.

    Args:
        folder: Where.
        sound: A sound checkpoint of `small_convnet` with a head.

    Yields:
        What is wrong, and the file.
    """
    header, _ = header_of(sound)
    text = header["__metadata__"][DESCRIPTION_KEY]
    tensors = _tensors_of(sound)
    entries = json.loads(text)
    cases = {
        "description is a list": signed("[1, 2]", tensors),
        "description is a number": signed("7", tensors),
        "description is empty": signed("", tensors),
        "description is nested deeply": signed("[" * DEEP, tensors),
        "schema lacks": signed(json.dumps(without(entries, "schema")), tensors),
        "key twice": signed(text[:-1] + ', "architecture": "small_convnet"}', tensors),
    }
    for field in ("architecture", "arguments", "image_shape", "mean", "std"):
        if field in ("architecture", "arguments", "image_shape"):
            cases[f"no {field}"] = signed(json.dumps(without(entries, field)), tensors)
    for field in entries:
        for what, spelled in NUMBERS.items():
            if _may_be(field, what):
                continue
            marked = json.dumps({**entries, field: "@@"}).replace('"@@"', spelled)
            cases[f"{field} {what}"] = signed(marked, tensors)
    for what, change in _wrong_descriptions(entries).items():
        cases[what] = signed(json.dumps({**entries, **change}), tensors)
    for what, change in _wrong_tensors(tensors).items():
        cases[what] = signed(text, change)
    for number, content in enumerate(cases.values()):
        (folder / f"checkpoint-{number}.safetensors").write_bytes(content)
    yield from named(folder, "checkpoint", ".safetensors", cases)


def _may_be(field: str, what: str) -> bool:
    # Values that a field may have: it is free, or the value is as good as another.
    free = {
        "architecture": (),
        "arguments": (),
        "recipe": ("table",),
        "version": ("text", "escape", "surrogate"),
        "normalization": ("text", "escape", "surrogate"),
        "transform": ("null",),
        "lipschitz_constant": ("null", "half"),
        "head_arguments": ("table",),
        "head": ("null",),
        "class_names": (),
        "checksum": ("null",),
    }
    return what in free.get(field, ())


def _wrong_descriptions(entries: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    arguments = entries["arguments"]
    found: dict[str, dict[str, Any]] = {}
    for key in arguments:
        for value in (HUGE, 10**18, 10**30, -1, 0, 1.5, "3", None, [], {}, 12345):
            found[f"arguments {key} {value!r}"] = {"arguments": {**arguments, key: value}}
    for shape in (
        *([0, 8, 8], [1, 10**6, 10**6], [1, 8], [1, 8, 8, 8], [-1, 8, 8], ["1", 8, 8], [1, 8, 9]),
        *([HUGE, HUGE, HUGE], [10**30, 1, 1], [2, 8, 8], [1, 64, 64], [1.0, 8, 8], [], "188"),
    ):
        found[f"image_shape {shape!r}"] = {"image_shape": shape}
    for name in (
        *("torchvision:__class__", "torchvision:", "timm:", "timm:hf-hub:timm/resnet18", ":", ""),
        *("timm:local-dir:/nowhere", "os:system", "torchvision:resnet18", "timm:resnet10t"),
        *("resnet18", "small_convnet ", "\x1b[31m", "a" * 10**5, "os:", ":system", "a..b:c"),
        *(".os:system", "torchvision:get_model", "timm:vit_tiny_patch16_224.none"),
    ):
        found[f"architecture {name[:40]!r}"] = {"architecture": name, "arguments": {}}
    for name, more in (
        ("timm:vit_tiny_patch16_224", {"depth": 10**6}),
        ("timm:vit_tiny_patch16_224", {"embed_dim": HUGE}),
        ("timm:vit_tiny_patch16_224", {"checkpoint_path": "/etc/passwd"}),
        ("timm:resnet18", {"pretrained": True}),
        ("timm:resnet18", {"features_only": True}),
        ("timm:resnet18", {"in_chans": HUGE}),
        ("torchvision:resnet18", {"width_per_group": HUGE}),
        ("torchvision:resnet18", {"weights": "DEFAULT"}),
        ("torchvision:resnet18", {"norm_layer": "x"}),
        ("torchvision:densenet121", {"growth_rate": HUGE}),
        ("torchvision:vit_b_16", {"image_size": HUGE}),
        ("torchvision:regnet_x_400mf", {"stem_width": HUGE}),
        ("cifar_resnet18", {"width": HUGE}),
        ("lipschitz_convnet", {"image_size": HUGE}),
        ("batch_norm_convnet", {"width": HUGE}),
        ("strided_convnet", {"width": HUGE}),
    ):
        found[f"{name} {more}"] = {"architecture": name, "arguments": more}
    many = {"class_names": [str(k) for k in range(1000)]}
    return {
        **found,
        "mean of 3": {"mean": [0.1, 0.1, 0.1]},
        "no mean": {"mean": []},
        "std 0": {"std": [0.0]},
        "std negative": {"std": [-0.4]},
        "class name is a number": {"class_names": [1, 2, 3, 4]},
        "too many class names": many,
        "another head": {"head": "other"},
        "head knn": {"head": "knn", "head_arguments": {"k": 1, "num_classes": HUGE}},
        "head linear": {"head": "linear"},
        "prototype with arguments of another": {"head": "knn", "head_arguments": {"a": [1]}},
        "embedding_size": {"embedding_size": HUGE},
        "embedding_size 0.5": {"embedding_size": 0.5},
        "claimed constant 0": {"lipschitz_constant": 0},
        "two branches": {"recipe": {"robust": "acl"}},
        "recipe nested deeply": {"recipe": nested(500)},
        "arguments nested deeply": {"arguments": nested(500)},
        "schema 99": {"schema": 99},
        "transform to another size": {"transform": {"resize": 9, "crop": 9}},
        "transform by way of a giant": {"transform": {"resize": HUGE, "crop": 8}},
        "transform of two channels": {"transform": {"resize": 8, "crop": 8, "channels": 2}},
        "transform by magic": {"transform": {"resize": 8, "crop": 8, "interpolation": "magic"}},
    }


def _wrong_tensors(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    name = next(key for key in tensors if key.endswith("0.weight"))
    value = tensors[name]
    found = {
        f"weights {short}": {**tensors, name: value.to(kind)}
        for short, kind in (
            *(("float8", torch.float8_e4m3fn), ("complex", torch.complex64), ("bool", torch.bool)),
            *(("int64", torch.int64), ("uint16", torch.uint16), ("float64", torch.float64)),
        )
    }
    return {
        **found,
        "NaN": {**tensors, name: value * torch.nan},
        "no tensor": {},
        "one tensor less": {k: v for k, v in tensors.items() if k != name},
        "one tensor more": {**tensors, "encoder.more": value},
        "a strange name": {**tensors, "\x1b[31m\n" * 100: value},
        "without sides": {**tensors, name: value.flatten()[0]},
        "of no numbers": {**tensors, name: value[:0]},
        "labels beyond": {
            **{k: v for k, v in tensors.items() if not k.startswith("head.")},
            "head.bank": torch.ones(4, 3),
            "head.labels": torch.full((4,), 2**40),
        },
    }


def _tensors_of(place: Path) -> dict[str, Tensor]:

    return load(place.read_bytes())
