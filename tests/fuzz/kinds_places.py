"""Put pipes, links, folders and files of others where a command reads or writes."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.case import BAD_INPUT, Case
from tests.fuzz.kinds_files import ONLY_BAD
from tests.fuzz.registry import kind

READERS: dict[str, tuple[str, ...]] = {
    "model.safetensors": ("robustcl", "inspect", "model.safetensors"),
    "weights.pth": (
        *("robustcl", "convert", "weights.pth", "--arch", "small_convnet", "--out"),
        "out.safetensors",
    ),
    "violation.safetensors": (
        *("robustcl", "reproduce", "violation.safetensors", "--checkpoint", "violated.safetensors"),
    ),
    "recipe.toml": (*("robustcl", "train", "--recipe", "recipe.toml", "--out", "out.safetensors"),),
    "suite.toml": ("robustcl", "bench", "suite.toml", "--out", "out"),
    "data.npz": (
        *("robustcl", "embed", "model.safetensors", "--data", "npz:data.npz", "--out", "out.npz"),
    ),
    "run/manifest.json": ("robustcl", "report", "run"),
    "run/records-0.jsonl": ("robustcl", "report", "run"),
    "tables/test.parquet": (
        *("robustcl", "embed", "model.safetensors", "--data", "parquet:tables", "--out", "out.npz"),
    ),
    "photos/test/ant/all.png": (
        *("robustcl", "embed", "model.safetensors", "--data", "imagefolder:photos"),
        *("--out", "out.npz"),
    ),
    "tree.toml": (
        *("robustcl", "train", "--recipe", "recipe.toml", "--out", "out.safetensors", "--targets"),
        "taxonomy:tree.toml",
    ),
    "words.txt": (
        *("robustcl", "train", "--recipe", "recipe.toml", "--out", "out.safetensors", "--targets"),
        "words:words.txt",
    ),
    "vectors.npy": (
        *("robustcl", "train", "--recipe", "recipe.toml", "--out", "out.safetensors", "--targets"),
        "npy:vectors.npy",
    ),
    "trained.state.safetensors": (
        *("robustcl", "train", "--recipe", "recipe.toml", "--out", "trained.safetensors"),
        *("--epochs", "4", "--save-every", "1", "--resume"),
    ),
}


def copied(good: Path, folder: Path) -> None:
    """Copy all originals but the large folders that no case here reads."""
    for place in good.iterdir():
        if place.name in ("bench", "study", "originals.log"):
            continue
        if place.is_dir():
            shutil.copytree(place, folder / place.name)
        else:
            shutil.copy(place, folder / place.name)


@kind("a pipe, a device, a folder or a link in the place of a file", share=2)
def no_file(draws: random.Random, folder: Path, good: Path) -> Case:
    copied(good, folder)
    name = draws.choice(sorted(READERS))
    place = folder / name
    place.unlink()
    changes: list[Callable[[], Any]] = [
        lambda: os.mkfifo(place),
        lambda: place.symlink_to("/dev/zero"),
        lambda: place.symlink_to("/dev/stdin"),
        lambda: place.symlink_to(place.name),
        lambda: place.symlink_to("nowhere"),
        lambda: place.mkdir(),
        lambda: None,
    ]
    number = draws.randrange(len(changes))
    changes[number]()
    program, *words = READERS[name]
    parts = (place.name, "ant")  # an image that is not there is no fault of a class with others
    gone = name in ("photos/test/ant/all.png", "run/records-0.jsonl") or (
        name == "trained.state.safetensors" and number == 6
    )
    return Case(
        program, words, ONLY_BAD | {0} if gone else ONLY_BAD, names=() if gone else parts,
        out="run" if name.startswith("run") else "out",
        kept=("out.npz", "trained.csv", "trained.png", "trained.safetensors", "out.csv", "out.png",
              "out.safetensors", "trained.state.safetensors"),
    )  # fmt: skip


THEIRS = (
    *("report.html", "figures/photo.png", "tables/mine.csv", "notes.txt", "manifest.json"),
    *("records-0.jsonl", "summary.json", "arrays/x.npz", "cell.json", "study.json", ".hidden"),
    *("figures/curve.png", "violations/x.safetensors", "model.safetensors"),
)


def writers(name: str) -> list[tuple[str, ...]]:
    """List the commands that write a folder called `name`."""
    return [
        ("certify", "run", "model.safetensors", "--data", "npz:data.npz", "--methods", "none",
         "--attack", "none", "--limit", "2", "--quiet", "--out", name),
        ("robustcl", "attack", "model.safetensors", "--data", "npz:data.npz", "--limit", "2",
         "--quiet", "--out", name),
        ("robustcl", "multiview", "model.safetensors", "--data", "npz:data.npz", "--count", "1,2",
         "--limit", "6", "--held-out", "6", "--attacked", "1", "--out", name),
        ("robustcl", "bench", "suite.toml", "--out", name),
        ("robustcl", "report", "run", "again", "--out", name),
        ("certify", "demo", "--out", name),
    ]  # fmt: skip


@kind("files of others in the output folder", share=2)
def foreign_files(draws: random.Random, folder: Path, good: Path) -> Case:
    copied(good, folder)
    for _ in range(draws.randint(1, 3)):
        place = folder / "mine" / draws.choice(THEIRS)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(draws.choice((b"mine", b"{}", b"[]", b"")))
    shutil.copytree(folder / "run", folder / "again")
    program, *words = draws.choice(writers("mine"))
    more = draws.choice(((), (), ("--resume",))) if words[0] in ("run", "attack", "bench") else ()
    return Case(program, [*words, *more], ONLY_BAD, names=("mine",), out="nothing")


@kind("files of others beside an output file")
def beside_the_output(draws: random.Random, folder: Path, good: Path) -> Case:
    copied(good, folder)
    name = draws.choice(("mine.csv", "mine.png", "mine.safetensors"))
    (folder / name).write_text("mine")
    words = ["train", "--recipe", "recipe.toml", "--out", "mine.safetensors"]
    return Case("robustcl", words, ONLY_BAD, names=(name,), out="nothing")


@kind("links in an output folder", share=1.5)
def links_in_output(draws: random.Random, folder: Path, good: Path) -> Case:
    copied(good, folder)
    (folder / "away").mkdir()
    (folder / "away" / "curves.png").write_text("mine")
    (folder / "away.txt").write_text("mine")
    name = draws.choice(("figures", "tables", "arrays", "report.html", "records-0.jsonl", ".lock",
                         "summary.json", "manifest.json"))  # fmt: skip
    place = folder / "run" / name
    file = place.is_file() or name == ".lock"
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.symlink_to("../away.txt" if file else "../away")
    words = ["report", "run"]
    if draws.random() < 0.5:
        words = ["run", "model.safetensors", "--data", "npz:data.npz", "--out", "run", "--methods",
                 "product,smoothing:sigma=.25,n=20", "--attack", "pgd:steps=2", "--eps", ".1,.3",
                 "--limit", "6", "--quiet", "--resume"]  # fmt: skip
    program = "certify" if words[0] == "run" else "robustcl"
    codes = frozenset({0, BAD_INPUT}) if name in (".lock", "arrays") else ONLY_BAD
    return Case(program, words, codes, out="run")


@kind("an output that names an input or a folder")
def output_is_input(draws: random.Random, folder: Path, good: Path) -> Case:
    copied(good, folder)
    model = "model.safetensors"
    words = draws.choice((
        ["probe", model, "--data", "npz:data.npz", "--out", model],
        ["embed", model, "--data", "npz:data.npz", "--out", "data.npz"],
        ["convert", "weights.pth", "--arch", "small_convnet", "--out", "photos"],
        ["embed", model, "--data", "npz:data.npz", "--out", "photos/x"],
        ["train", "--recipe", "recipe.toml", "--out", "run"],
        ["embed", model, "--data", "npz:data.npz", "--out", "data.npz/x.npz"],
        ["probe", model, "--data", "npz:data.npz", "--out", "photos/test/x.pth"],
        ["bench", "suite.toml", "--out", "suite.toml"],
        ["report", "run", "run", "--out", "photos"],
        ["report", "photos"],
        ["report", "."],
    ))  # fmt: skip
    return Case("robustcl", words, ONLY_BAD, out="nothing")
