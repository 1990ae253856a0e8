"""Build malformed checkpoints, weight files, reproducers, run folders, recipes and suites.

Every function writes files of one kind into a folder, one after another, and yields what is wrong
with each. Each of them is bad input: a command that is given one says so in one line, within
seconds and little memory, and ends with exit code 2.
"""

import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from robustcl.checksum import checksum
from robustcl.stored_file import CHECKSUM, KEY

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


def signed(text: str, tensors: Mapping[str, Tensor]) -> bytes:
    """Write a checkpoint with a right checksum, whatever its description says.

    Args:
        text: The description in JSON.
        tensors: By name.

    Returns:
        The content of the file.
    """
    metadata = {KEY: text, CHECKSUM: checksum(text, tensors)}
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
    yield from _named(folder, "header", ".safetensors", cases)


def checkpoints(folder: Path, sound: Path) -> Cases:
    """Write checkpoints with right checksums whose description is wrong.

    Args:
        folder: Where.
        sound: A sound checkpoint of `small_convnet` with a head.

    Yields:
        What is wrong, and the file.
    """
    header, _ = header_of(sound)
    text = header["__metadata__"][KEY]
    tensors = _tensors_of(sound)
    entries = json.loads(text)
    cases = {
        "description is a list": signed("[1, 2]", tensors),
        "description is a number": signed("7", tensors),
        "description is empty": signed("", tensors),
        "description is nested deeply": signed("[" * DEEP, tensors),
        "schema lacks": signed(json.dumps(_without(entries, "schema")), tensors),
        "key twice": signed(text[:-1] + ', "architecture": "small_convnet"}', tensors),
    }
    for field in ("architecture", "arguments", "image_shape", "mean", "std"):
        if field in ("architecture", "arguments", "image_shape"):
            cases[f"no {field}"] = signed(json.dumps(_without(entries, field)), tensors)
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
    yield from _named(folder, "checkpoint", ".safetensors", cases)


def _may_be(field: str, what: str) -> bool:
    # Values that a field may have: it is free, or the value is as good as another.
    free = {
        "architecture": (),
        "arguments": (),
        "recipe": ("table",),
        "version": ("text", "escape", "surrogate"),
        "normalization": ("text", "escape", "surrogate"),
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
        "recipe nested deeply": {"recipe": _nested(500)},
        "arguments nested deeply": {"arguments": _nested(500)},
        "schema 99": {"schema": 99},
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


def weight_files(folder: Path, sound: Mapping[str, Tensor]) -> Cases:
    """Write .pth files that are no weights of a network, or pretend to be more than they are.

    Among them are a pipe, a device and a file of 4 TB of holes: copy or hash none of them.

    Args:
        folder: Where.
        sound: The weights of a network.

    Yields:
        What is wrong, and the file.
    """
    name, value = next((k, v) for k, v in sound.items() if v.ndim > 1)
    for number, (what, content) in enumerate(_wrong_states(dict(sound), name, value).items()):
        place = folder / f"weights-{number}.pth"
        torch.save(content, place)
        yield what, place
    for number, (what, content) in enumerate(_wrong_archives(dict(sound)).items()):
        place = folder / f"archive-{number}.pth"
        place.write_bytes(content)
        yield what, place
    pipe = folder / "pipe.pth"
    os.mkfifo(pipe)
    yield "a pipe", pipe
    (folder / "folder.pth").mkdir()
    yield "a folder", folder / "folder.pth"
    (folder / "link.pth").symlink_to(folder / "nothing")
    yield "a link that leads nowhere", folder / "link.pth"
    (folder / "loop.pth").symlink_to(folder / "loop.pth")
    yield "a link to itself", folder / "loop.pth"
    yield "a device", Path("/dev/zero")
    with (folder / "holes.pth").open("wb") as stream:
        stream.truncate(2**42)
    yield "a file of holes", folder / "holes.pth"


def _wrong_states(sound: dict[str, Tensor], name: str, value: Tensor) -> dict[str, Any]:
    cycle: dict[str, Any] = {}
    cycle["model"] = cycle
    two: dict[str, Any] = {"state_dict": {}}
    two["state_dict"]["model"] = two
    ring: list[Any] = []
    ring.append(ring)
    base = torch.zeros(1)
    quantized = torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8)
    return {
        "a table that holds itself": cycle,
        "two tables that hold each other": two,
        "a list that holds itself": {"weights": ring},
        "nested tables": _nested(400, "model"),
        "nested lists": {"a": _nested_lists(400)},
        "a view of 10^12 numbers": {**sound, name: base.expand(10**6, 10**6)},
        "a view of 10^18 numbers": {**sound, name: base.expand(10**9, 10**9)},
        "10^4 views of a million": {
            str(k): torch.zeros(10**6).as_strided((10**6,), (1,)) for k in range(1)
        }
        | {f"v{k}": base.expand(10**8) for k in range(1000)},
        "right shape by a view, NaN": {**sound, name: (base * torch.nan).expand(value.shape)},
        "sparse": {**sound, name: value.to_sparse()},
        "sparse of 10^12": {
            **sound,
            name: torch.sparse_coo_tensor(torch.zeros(2, 1).long(), [1.0], (10**6, 10**6)),
        },
        "quantized": {**sound, name: quantized},
        "meta": {**sound, name: torch.empty(value.shape, device="meta")},
        "meta of 10^15": {**sound, name: torch.empty((10**6, 10**9), device="meta")},
        "mean is meta": {**sound, "mean": torch.empty(1, device="meta"), "std": torch.ones(1)},
        "mean is sparse": {**sound, "mean": torch.ones(1).to_sparse(), "std": torch.ones(1)},
        "mean of no numbers": {**sound, "mean": torch.ones(0), "std": torch.ones(0)},
        "complex": {**sound, name: value.to(torch.complex64)},
        "bool": {**sound, name: value.bool()},
        "float8 of another shape": {**sound, name: value.to(torch.float8_e5m2)[:1]},
        "keys are numbers and texts": {1: value, "1": value},
        "keys are tuples": {(1, 2): value},
        "keys are bytes": {b"a": value},
        "keys are None": {None: value},
        "keys of control characters": {"\x1b[2J\n\r\0": value, "\u202e": value},
        "long keys": {"module." * 30_000 + "a": value},
        "many keys": {str(k): None for k in range(200_000)},
        "no tensors": {str(k): k for k in range(1000)},
        "an OrderedDict of lists": OrderedDict(a=[value], b=[value]),
        "a tensor": value,
        "a list": [value, value],
        "a number": 3,
        "None": None,
        "a text": "state_dict",
        "NaN": {**sound, name: value * torch.nan},
        "wider": {**sound, name: torch.cat([value, value])},
    }


def _wrong_archives(sound: dict[str, Tensor]) -> dict[str, bytes]:
    stream = io.BytesIO()
    torch.save(sound, stream)
    content = stream.getvalue()
    legacy = io.BytesIO()
    torch.save(sound, legacy, _use_new_zipfile_serialization=False)
    old = legacy.getvalue()
    archive = zipfile.ZipFile(io.BytesIO(content))
    stored = {entry: archive.read(entry) for entry in archive.namelist()}
    first = next(entry for entry in stored if entry.endswith("/data/0"))
    described = next(entry for entry in stored if entry.endswith("data.pkl"))
    return {
        "empty": b"",
        "zeros": bytes(1000),
        "text": b"no weights at all\n" * 50,
        "half an archive": content[: len(content) // 2],
        "archive without its end": content[:-30],
        "a flipped bit": _flipped(content, content.index(stored[first][:64])),
        "a bomb": _archive({**stored, first: bytes(3 * 10**7)}, zipfile.ZIP_DEFLATED),
        "a bomb in the description": _archive(
            {**stored, described: b"\x80\x02]" + b"]a" * 3 * 10**6 + b"."}, zipfile.ZIP_DEFLATED
        ),
        "no description": _archive(_without(stored, described)),
        "no numbers": _archive(_without(stored, first)),
        "too few numbers": _archive({**stored, first: stored[first][:3]}),
        "description nested deeply": _archive({**stored, described: _deep_pickle()}),
        "runs a program": _archive({**stored, described: pickle.dumps(_Runs())}),
        "one entry": _archive({"a": b"b"}),
        "legacy cut": old[: len(old) // 2],
        "legacy that runs a program": pickle.dumps(_Runs()),
        "legacy nested deeply": _deep_pickle(),
        "pickle of a number": pickle.dumps(3),
        "pickle of a huge number": pickle.dumps(1 << (8 * 10**6)),
    }


class _Runs:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch ran-a-program",)


def _deep_pickle() -> bytes:
    return b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b"."


def _archive(entries: Mapping[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _flipped(content: bytes, where: int) -> bytes:
    return content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :]


def _without(entries: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if key != name}


def _nested(levels: int, key: str = "a") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {key: found}
    return found


def _nested_lists(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


def _tensors_of(place: Path) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(place.read_bytes())


def _named(folder: Path, kind: str, ending: str, cases: Mapping[str, Any]) -> Cases:
    for number, what in enumerate(cases):
        yield what, folder / f"{kind}-{number}{ending}"
