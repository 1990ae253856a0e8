"""Give the commands what the builders of malformed files make: one certain fault in each."""

import os
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import torch

from tests.fuzz import build_data, build_files
from tests.fuzz.build_parts import Cases
from tests.fuzz.case import Case
from tests.fuzz.kinds_data import of_data
from tests.fuzz.kinds_files import FINE, ONLY_BAD, QUICK
from tests.fuzz.registry import kind

SMALL = 2**24  # bytes
_known: dict[tuple[str, str], tuple[Path, ...]] = {}


def _built(name: str, good: Path, make: Callable[[Path], Cases]) -> tuple[Path, ...]:
    # Once per process: the builders write all of their files.
    key = (name, str(good))
    if key not in _known:
        folder = good.parent / f"built-{name}-{os.getpid()}"
        folder.mkdir()
        _known[key] = tuple(place for _, place in make(folder) if _is_small(place))
    return _known[key]


def _is_small(place: Path) -> bool:
    # Pipes, devices and files with holes are a kind of their own, and not to be copied.
    about = place.lstat()
    return stat.S_ISDIR(about.st_mode) or (stat.S_ISREG(about.st_mode) and about.st_size < SMALL)


def _copied(draws: random.Random, folder: Path, places: tuple[Path, ...]) -> str:
    place = draws.choice(places)
    if place.is_dir():
        shutil.copytree(place, folder / place.name, symlinks=True)
    else:
        shutil.copy(place, folder / place.name)
    return place.name


@kind("checkpoint: one certain fault", share=2)
def built_checkpoint(draws: random.Random, folder: Path, good: Path) -> Case:
    sound = good / "model.safetensors"
    places = (
        *_built("headers", good, lambda place: build_files.safetensors_files(place, sound)),
        *_built("checkpoints", good, lambda place: build_files.checkpoints(place, sound)),
    )
    name = _copied(draws, folder, places)
    shutil.copy(good / "data.npz", folder)
    words = ["run", name, "--data", "npz:data.npz", "--out", "out", "--plan", "1", *QUICK]
    return Case("certify", words, ONLY_BAD, names=(name,))


@kind("weights of others: one certain fault", share=2)
def built_weights(draws: random.Random, folder: Path, good: Path) -> Case:
    state = torch.load(good / "weights.pth", weights_only=True)["state_dict"]
    places = _built("weights", good, lambda place: build_files.weight_files(place, state))
    name = _copied(draws, folder, places)
    words = ["convert", name, "--arch", "small_convnet", "--arguments",
             '{"channels":1,"image_size":8,"width":4,"embedding_size":5}', "--input-size", "1x8x8",
             "--out", "out.safetensors"]  # fmt: skip
    return Case("robustcl", words, FINE, out="out.safetensors")


@kind("run: one certain fault", share=1.5)
def built_run(draws: random.Random, folder: Path, good: Path) -> Case:
    places = _built("runs", good, lambda place: build_files.run_folders(place, good / "run"))
    name = _copied(draws, folder, places)
    return Case("robustcl", ["report", name], ONLY_BAD, names=(name,), out=name)


@kind("reproducer: one certain fault")
def built_reproducer(draws: random.Random, folder: Path, good: Path) -> Case:
    sound = good / "violation.safetensors"
    places = _built("reproducers", good, lambda place: build_files.reproducers(place, sound))
    name = _copied(draws, folder, places)
    shutil.copy(good / "violated.safetensors", folder)
    words = ["reproduce", name, "--checkpoint", "violated.safetensors"]
    return Case("robustcl", words, ONLY_BAD, names=(name,))


@kind("recipe: one certain fault")
def built_recipe(draws: random.Random, folder: Path, good: Path) -> Case:
    name = _copied(draws, folder, _built("recipes", good, build_files.recipes))
    shutil.copy(good / "data.npz", folder)
    words = ["train", "--recipe", name, "--out", "out.safetensors", "--max-seconds", "1",
             "--data", "npz:data.npz"]  # fmt: skip
    return Case("robustcl", words, ONLY_BAD, out="out.safetensors")


@kind("suite: one certain fault")
def built_suite(draws: random.Random, folder: Path, good: Path) -> Case:
    name = _copied(draws, folder, _built("suites", good, build_files.suites))
    return Case("robustcl", ["bench", name, "--out", "out"], ONLY_BAD)


@kind("images: one certain fault", share=2)
def built_image(draws: random.Random, folder: Path, good: Path) -> Case:
    shutil.copytree(good / "photos", folder / "photos")
    for split in ("train", "test"):
        place = draws.choice(sorted((folder / "photos" / split).rglob("*.png")))
        place.write_bytes(draws.choice(sorted(build_data.bad_images().items()))[1])
    size = draws.choice(("", ",size=8"))
    return of_data(draws, folder, good, f"imagefolder:photos{size}", codes=FINE)


@kind("arrays: one certain fault", share=2)
def built_arrays(draws: random.Random, folder: Path, good: Path) -> Case:
    content = draws.choice(sorted(build_data.bad_npz().items()))[1]
    (folder / "bad.npz").write_bytes(content)
    names = ("bad.npz", "npz/bad/")
    return of_data(draws, folder, good, "npz:bad.npz", codes=ONLY_BAD, names=names)


@kind("tables of images: one certain fault", share=2)
def built_table(draws: random.Random, folder: Path, good: Path) -> Case:
    (folder / "tables").mkdir()
    build = draws.choice(sorted(build_data.bad_parquet().items()))[1]
    for split in ("train", "test"):
        build(folder / "tables" / f"{split}.parquet")
    return of_data(draws, folder, good, "parquet:tables", codes=ONLY_BAD)
