"""Spoil the files that robustcl itself writes: checkpoints, runs, studies, suites, states."""

import io
import json
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from robustcl.core.hashes import checksum
from robustcl.models.stored_file import DESCRIPTION_KEY, STORED_CHECKSUM
from robustcl.records.json_file import sealed
from robustcl.records.lines import record_line
from robustcl.training import resume_state
from tests.fuzz.case import BAD_INPUT, Case
from tests.fuzz.mutations import spoiled, spoiled_bytes
from tests.fuzz.registry import kind

ONLY_BAD = frozenset({BAD_INPUT})
FINE = frozenset({
    0,
    BAD_INPUT,
})  # a spoiled file may say the same, or something else that is usable
QUICK = ("--methods", "none", "--attack", "none", "--limit", "2", "--quiet")


def read_tensors(place: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file and its metadata."""
    with safe_open(place, framework="pt") as found:
        tensors = {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118
        return tensors, dict(found.metadata() or {})


def model_case(draws: random.Random, name: str, *, codes: frozenset[int] = FINE) -> Case:
    """Give a checkpoint to one of the commands that read one."""
    cases = {
        "inspect": Case("robustcl", ["inspect", name], codes),
        "embed": Case("robustcl", ["embed", name, "--data", "npz:data.npz", "--out", "out.npz",
                                   "--limit", "2"], codes, out="out.npz"),
        "run": Case("certify", ["run", name, "--data", "npz:data.npz", "--out", "out", "--plan",
                                "1", *QUICK[:4], "--limit", "2"], codes),
        "probe": Case("robustcl", ["probe", name, "--data", "npz:data.npz", "--out",
                                   "out.safetensors", "--quiet"], codes, out="out.safetensors"),
        "convert": Case("robustcl", ["convert", name, "--arch", "small_convnet", "--out",
                                     "out.safetensors", "--input-size", "1x8x8"], codes,
                        out="out.safetensors"),
    }  # fmt: skip
    chosen = draws.choice(("inspect", "inspect", "embed", "run", "probe", "convert"))
    return cases[chosen]


@kind("checkpoint: a field of the description", share=3)
def description_field(draws: random.Random, folder: Path, good: Path) -> Case:
    tensors, metadata = read_tensors(good / draws.choice(("model.safetensors", "old.safetensors")))
    content, _ = spoiled(draws, json.loads(metadata[DESCRIPTION_KEY]))
    _write_signed(folder / "bad.safetensors", content, tensors)
    shutil.copy(good / "data.npz", folder)
    return model_case(draws, "bad.safetensors")


@kind("checkpoint: tensors of other kinds and shapes", share=2)
def checkpoint_tensors(draws: random.Random, folder: Path, good: Path) -> Case:
    tensors, metadata = read_tensors(good / "model.safetensors")
    name = draws.choice(sorted(tensors))
    value = tensors[name]
    changes: list[Callable[[], Any]] = [
        lambda: tensors.pop(name),
        lambda: tensors.update({name + "\x1b[1m": tensors.pop(name)}),
        lambda: tensors.update({name: value.flatten()[:-1]}),
        lambda: tensors.update({name: value[None]}),
        lambda: tensors.update({name: value.to(torch.float8_e4m3fn)}),
        lambda: tensors.update({name: value.to(torch.float16)}),
        lambda: tensors.update({name: value.to(torch.int64)}),
        lambda: tensors.update({name: torch.full_like(value, float("nan"))}),
        lambda: tensors.update({name: torch.full_like(value, 3e38)}),
        lambda: tensors.update({name: torch.zeros(0)}),
        lambda: tensors.update({name: torch.complex(value.float(), value.float())}),
        lambda: tensors.update({f"encoder.more.{k}": value.clone() for k in range(200)}),
    ]
    draws.choice(changes)()
    _write_signed(folder / "bad.safetensors", json.loads(metadata[DESCRIPTION_KEY]), tensors)
    shutil.copy(good / "data.npz", folder)
    return model_case(draws, "bad.safetensors")


@kind("checkpoint: bytes", share=2)
def checkpoint_bytes(draws: random.Random, folder: Path, good: Path) -> Case:
    content = (good / "model.safetensors").read_bytes()
    (folder / "bad.safetensors").write_bytes(spoiled_bytes(draws, content))
    shutil.copy(good / "data.npz", folder)
    return model_case(draws, "bad.safetensors")


@kind("checkpoint: header of the safetensors format")
def checkpoint_header(draws: random.Random, folder: Path, good: Path) -> Case:
    content = (good / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, _ = spoiled(draws, json.loads(content[8 : 8 + length]))
    text = json.dumps(header).encode("utf-8", "replace")
    stated = len(text) if draws.random() < 0.8 else draws.choice((0, 1, 2**31, 2**63, 10**9))
    whole = struct.pack("<Q", stated) + text + content[8 + length :]
    (folder / "bad.safetensors").write_bytes(whole)
    shutil.copy(good / "data.npz", folder)
    return model_case(draws, "bad.safetensors")


@kind("checkpoint: an absurd architecture")
def absurd_architecture(draws: random.Random, folder: Path, good: Path) -> Case:
    tensors, metadata = read_tensors(good / "model.safetensors")
    content = json.loads(metadata[DESCRIPTION_KEY])
    changes: list[Callable[[], Any]] = [
        lambda: content["arguments"].update(width=10**9),
        lambda: content["arguments"].update(channels=10**9),
        lambda: content["arguments"].update(image_size=10**6),
        lambda: content["arguments"].update(embedding_size=10**10),
        lambda: content.update(image_shape=[1, 10**6, 10**6]),
        lambda: content.update(image_shape=[10**9, 8, 8]),
        lambda: content.update(architecture="torchvision:__class__"),
        lambda: content.update(architecture="torchvision:get_model", arguments={"name": "vgg19"}),
        lambda: content.update(architecture="torchvision:vgg19", arguments={"num_classes": 10**9}),
        lambda: content.update(architecture="timm:hf-hub:someone/something"),
        lambda: content.update(architecture="os:system", arguments={"command": "touch owned"}),
        lambda: content.update(architecture="builtins:exit"),
        lambda: content.update(architecture="", arguments={}),
        lambda: content.update(mean=[0.0] * 10**5),
        lambda: content.update(std=[0.0]),
        lambda: content.update(embedding_size=10**12),
        lambda: content.update(head="knn", head_arguments={"k": 10**12}),
        lambda: content.update(class_names=["a", "a", "b"]),
        lambda: content.update(class_names=["\x1b[2J", "b", "c"]),
        lambda: content.update(lipschitz_constant=draws.choice((-1, 0, 1e-9, "x", [], True))),
    ]
    number = draws.randrange(len(changes))
    changes[number]()
    _write_signed(folder / "bad.safetensors", content, tensors)
    shutil.copy(good / "data.npz", folder)
    # An inspection builds no network; names with control characters are allowed and escaped.
    return model_case(draws, "bad.safetensors")


@kind("reproducer: a field")
def reproducer_field(draws: random.Random, folder: Path, good: Path) -> Case:
    tensors, metadata = read_tensors(good / "violation.safetensors")
    (key,) = metadata
    content, _ = spoiled(draws, json.loads(metadata[key]))
    text = json.dumps(content) if draws.random() < 0.95 else "{"
    text = text.encode("utf-8", "replace").decode()
    (folder / "bad.safetensors").write_bytes(save(tensors, metadata={key: text}))
    return _replay(folder, good)


@kind("reproducer: bytes and tensors")
def reproducer_bytes(draws: random.Random, folder: Path, good: Path) -> Case:
    tensors, metadata = read_tensors(good / "violation.safetensors")
    action = draws.randrange(4)
    if action == 0:
        content = spoiled_bytes(draws, (good / "violation.safetensors").read_bytes())
    else:
        name = draws.choice(sorted(tensors))
        value = tensors[name]
        changed = (value[..., :-1].clone(), value * float("nan"), value.to(torch.int8))
        tensors[name] = changed[action - 1]
        content = save(tensors, metadata=metadata)
    (folder / "bad.safetensors").write_bytes(content)
    return _replay(folder, good)


def _replay(folder: Path, good: Path) -> Case:
    shutil.copy(good / "violated.safetensors", folder)
    words = ["reproduce", "bad.safetensors", "--checkpoint", "violated.safetensors"]
    return Case("robustcl", words, frozenset({0, 1, BAD_INPUT}))


@kind("run: a field of the manifest", share=2)
def manifest_field(draws: random.Random, folder: Path, good: Path) -> Case:
    shutil.copytree(good / "run", folder / "run")
    place = folder / "run" / "manifest.json"
    content, _ = spoiled(draws, json.loads(place.read_text()))
    if isinstance(content, dict) and draws.random() < 0.8:
        content = sealed(content)
    place.write_text(json.dumps(content), encoding="utf-8", errors="replace")
    return _of_run(draws, folder, good)


@kind("run: a field of a record", share=2)
def record_field(draws: random.Random, folder: Path, good: Path) -> Case:
    shutil.copytree(good / "run", folder / "run")
    place = folder / "run" / "records-0.jsonl"
    lines = place.read_bytes().splitlines(keepends=True)
    number = draws.randrange(len(lines))
    record = json.loads(lines[number])
    record.pop("crc")
    changed, _ = spoiled(draws, record)
    try:
        lines[number] = record_line(changed)
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        lines[number] = json.dumps(changed).encode("utf-8", "replace") + b"\n"
    place.write_bytes(b"".join(lines))
    return _of_run(draws, folder, good)


@kind("run: bytes of any file", share=2)
def run_bytes(draws: random.Random, folder: Path, good: Path) -> Case:
    shutil.copytree(good / "run", folder / "run")
    places = [p for p in (folder / "run").rglob("*") if p.is_file() and p.suffix != ".html"]
    kept = [p for p in places if p.parent.name not in ("figures", "tables")]
    place = draws.choice(sorted(kept))
    place.write_bytes(spoiled_bytes(draws, place.read_bytes()))
    return _of_run(draws, folder, good)


@kind("run: arrays")
def run_arrays(draws: random.Random, folder: Path, good: Path) -> Case:
    shutil.copytree(good / "run", folder / "run")
    place = draws.choice(sorted((folder / "run" / "arrays").glob("*.npz")))
    with np.load(place) as found:
        arrays = {name: found[name] for name in found.files}
    name = draws.choice(sorted(arrays))
    value = arrays[name]
    changes: list[Callable[[], Any]] = [
        lambda: arrays.pop(name),
        lambda: arrays.update({name: value[:0] if value.ndim else np.zeros(0)}),
        lambda: arrays.update({name: np.array([["a"]])}),
        lambda: arrays.update({name: value.astype(complex) if value.dtype.kind in "fiu" else 0}),
        lambda: arrays.update({name: np.full(value.shape, np.nan)}),
        lambda: arrays.update({name: value[None]}),
        lambda: arrays.update({"\x1b[5m": value}),
    ]
    draws.choice(changes)()
    np.savez(place, **arrays)
    return _of_run(draws, folder, good)


def _of_run(draws: random.Random, folder: Path, good: Path) -> Case:
    if draws.random() < 0.6:
        more = ["--json"] if draws.random() < 0.3 else []
        return Case("robustcl", ["report", "run", *more], FINE, out="run")
    shutil.copy(good / "model.safetensors", folder)
    shutil.copy(good / "data.npz", folder)
    words = ["run", "model.safetensors", "--data", "npz:data.npz", "--out", "run", "--methods",
             "product,smoothing:sigma=.25,n=20", "--attack", "pgd:steps=2", "--eps", ".1,.3",
             "--limit", "6", "--quiet", "--resume"]  # fmt: skip
    return Case("certify", words, FINE, out="run")


@kind("study: a field or bytes", share=1.5)
def study(draws: random.Random, folder: Path, good: Path) -> Case:
    shutil.copytree(good / "study", folder / "study")
    kept = [p for p in (folder / "study").rglob("*") if p.suffix in (".json", ".npz")]
    place = draws.choice(sorted(kept))
    if place.suffix == ".json" and draws.random() < 0.8:
        content, _ = spoiled(draws, json.loads(place.read_text()))
        content = sealed(content) if isinstance(content, dict) else content
        place.write_text(json.dumps(content), encoding="utf-8", errors="replace")
    else:
        place.write_bytes(spoiled_bytes(draws, place.read_bytes()))
    return Case("robustcl", ["report", "study"], FINE, out="study")


@kind("suite folder: a field or bytes", share=1.5)
def suite_folder(draws: random.Random, folder: Path, good: Path) -> Case:
    shutil.copytree(good / "bench", folder / "bench")
    places = [p for p in (folder / "bench").rglob("*.json") if "robustbench" not in p.name]
    place = draws.choice(sorted(places))
    if draws.random() < 0.8:
        content, _ = spoiled(draws, json.loads(place.read_text()))
        content = sealed(content) if isinstance(content, dict) else content
        place.write_text(json.dumps(content), encoding="utf-8", errors="replace")
    else:
        place.write_bytes(spoiled_bytes(draws, place.read_bytes()))
    return Case("robustcl", ["report", "bench"], FINE, out="bench")


@kind("training state: a field, tensors or bytes", share=1.5)
def training_state(draws: random.Random, folder: Path, good: Path) -> Case:
    for name in ("data.npz", "recipe.toml", "trained.state.safetensors"):
        shutil.copy(good / name, folder)
    place = folder / "trained.state.safetensors"
    tensors, metadata = read_tensors(place)
    text = metadata[resume_state.STATE_KEY]
    action = draws.randrange(3)
    if action == 0:
        place.write_bytes(spoiled_bytes(draws, place.read_bytes()))
    else:
        if action == 1:
            name = draws.choice(sorted(tensors))
            tensors[name] = draws.choice((tensors[name].flatten()[:0], tensors[name][None].clone()))
        else:
            content, _ = spoiled(draws, json.loads(text))
            text = json.dumps(content).encode("utf-8", "replace").decode()
        stated = {resume_state.STATE_KEY: text, resume_state._CHECKSUM: checksum(text, tensors)}
        place.write_bytes(save(tensors, metadata=stated))
    words = ["train", "--recipe", "recipe.toml", "--out", "trained.safetensors", "--save-every",
             "1", "--epochs", "4", "--resume"]  # fmt: skip
    return Case("robustcl", words, FINE, out="trained.safetensors", kept=_OF_TRAINING)


_OF_TRAINING = (
    *("trained.csv", "trained.png", "trained.state.safetensors", "trained.state.safetensors.lock"),
)


@kind("weights of others", share=3)
def weights(draws: random.Random, folder: Path, good: Path) -> Case:
    content = torch.load(good / "weights.pth", weights_only=True)
    place = folder / draws.choice(("bad.pth", "bad.pt", "bad.safetensors", "bad.bin"))
    action = draws.randrange(12)
    state = content["state_dict"]
    name = draws.choice(sorted(state))
    plain = io.BytesIO()
    if action == 0:
        place.write_bytes(spoiled_bytes(draws, (good / "weights.pth").read_bytes()))
    else:
        loop: dict[str, Any] = {}
        loop["model"] = loop
        deep: Any = state
        for _ in range(200):
            deep = {"model": deep}
        value = state[name]
        changed: list[Any] = [
            loop,
            deep,
            [state, state],
            {**state, name: torch.zeros(1).expand(10**12)},
            {**state, name: value.to_sparse()},
            {
                **state,
                name: torch.quantize_per_tensor(value.float().flatten()[:1], 0.1, 0, torch.qint8),
            },
            {**state, name: value.to(torch.float8_e5m2)},
            {**state, name: value * float("nan")},
            {**state, name + "\x1b[2J": value},
            {str(k): torch.zeros(1) for k in range(5000)},
            {"state_dict": {name: 1.0}, "model": [loop]},
        ]
        legacy = draws.random() < 0.3
        torch.save(changed[action - 1], plain, _use_new_zipfile_serialization=not legacy)
        place.write_bytes(plain.getvalue())
    words = ["convert", place.name, "--arch", "small_convnet", "--arguments",
             '{"channels":1,"image_size":8,"width":4,"embedding_size":5}', "--input-size", "1x8x8",
             "--out", "out.safetensors"]  # fmt: skip
    return Case("robustcl", words, FINE, out="out.safetensors")


class _Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, ("touch owned",)


@kind("weights of others: code and bombs")
def weight_traps(draws: random.Random, folder: Path, good: Path) -> Case:
    place = folder / "bad.pth"
    action = draws.randrange(4)
    if action == 0:
        torch.save({"state_dict": _Evil()}, place)
    elif action == 1:
        torch.save(_Evil(), place, _use_new_zipfile_serialization=False)
    elif action == 2:
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
            archive.writestr("archive/version", b"3\n")
            archive.writestr("archive/data/0", bytes(50 * 2**20))
    else:
        place.write_bytes(b"\x80\x02" + b"(" * 200_000 + b".")
    words = ["convert", place.name, "--arch", "small_convnet", "--out", "out.safetensors",
             "--input-size", "1x8x8"]  # fmt: skip
    return Case("robustcl", words, names=("bad.pth",), out="out.safetensors")


def _write_signed(place: Path, content: Any, tensors: dict[str, Tensor]) -> None:
    text = json.dumps(content).encode("utf-8", "replace").decode()
    plain = {name: value.contiguous() for name, value in tensors.items()}
    place.write_bytes(
        save(plain, metadata={DESCRIPTION_KEY: text, STORED_CHECKSUM: checksum(text, plain)})
    )
