"""Build malformed weight files."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.fuzz.build_parts import DEEP, Cases, archive, flipped, nested, nested_lists, without


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
        "nested tables": nested(400, "model"),
        "nested lists": {"a": nested_lists(400)},
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
    opened = zipfile.ZipFile(io.BytesIO(content))
    stored = {entry: opened.read(entry) for entry in opened.namelist()}
    first = next(entry for entry in stored if entry.endswith("/data/0"))
    described = next(entry for entry in stored if entry.endswith("data.pkl"))
    return {
        "empty": b"",
        "zeros": bytes(1000),
        "text": b"no weights at all\n" * 50,
        "half an archive": content[: len(content) // 2],
        "archive without its end": content[:-30],
        "a flipped bit": flipped(content, content.index(stored[first][:64])),
        "a bomb": archive({**stored, first: bytes(3 * 10**7)}, zipfile.ZIP_DEFLATED),
        "a bomb in the description": archive(
            {**stored, described: b"\x80\x02]" + b"]a" * 3 * 10**6 + b"."}, zipfile.ZIP_DEFLATED
        ),
        "no description": archive(without(stored, described)),
        "no numbers": archive(without(stored, first)),
        "too few numbers": archive({**stored, first: stored[first][:3]}),
        "description nested deeply": archive({**stored, described: _deep_pickle()}),
        "runs a program": archive({**stored, described: pickle.dumps(_Runs())}),
        "one entry": archive({"a": b"b"}),
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
