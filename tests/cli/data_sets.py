"""Data sets that differ from a checkpoint's training data in one way each, and the truth of each.

Six classes are six colors. Of ten test images per class one shows the next class's color, so that
the true accuracy is 90 %, and every shift of labels shows.
"""

import io
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

NAMES = ("ant", "bee", "café", "dog", "elk", "fox")
COLORS = {
    "ant": (230, 20, 20),
    "bee": (20, 230, 20),
    "café": (20, 20, 230),
    "dog": (230, 230, 20),
    "elk": (230, 20, 230),
    "fox": (20, 230, 230),
    "gnu": (128, 128, 128),
    "hen": (250, 250, 250),
}
PER_CLASS = 10
OK, REFUSED, POSITIONS, UNLABELED = "ok", "refused", "positions", "unlabeled"
Item = tuple[np.ndarray, str]  # pixels and the name of the true class


def items(names: Sequence[str] = NAMES, *, seed: int = 0, wrong: bool = True) -> list[Item]:
    """Draw ten images of every class, one of them in the color of the next.

    Args:
        names: The classes, keys of `COLORS`.
        seed: Of the noise.
        wrong: Whether there are images in a wrong color.

    Returns:
        Pixels and names, one class after the other.
    """
    draws = np.random.default_rng(seed)
    found = []
    for place, name in enumerate(names):
        for number in range(PER_CLASS):
            shown = names[(place + 1) % len(names)] if wrong and number == 3 else name
            noise = draws.integers(-15, 16, (8, 8, 3))
            pixels = np.clip(np.array(COLORS[shown]) + noise, 0, 255).astype(np.uint8)
            found.append((pixels, name))
    return found


@dataclass(frozen=True)
class Case:
    """State one data set.

    Args:
        name: What differs.
        build: Writes it into a folder, and returns its specification.
        expected: 'ok' (the accuracy by name), 'refused', 'positions' (said, not by name) or
            'unlabeled' (no accuracy).
        names: The classes that it has, by which the truth is computed.
        called: What it calls some of them, where that is another class.
        code: The exit code of a refusal; 6 where the disk denies.
    """

    name: str
    build: Callable[[Path, pytest.MonkeyPatch], str]
    expected: str
    names: tuple[str, ...] = NAMES
    called: Mapping[str, str] = field(default_factory=dict)
    code: int = 2

    @property
    def truth(self) -> list[Item]:
        """Pixels and the names that the data gives them."""
        return [(pixels, self.called.get(name, name)) for pixels, name in items(self.names)]


def write_folder(
    root: Path, content: Sequence[Item], *, called: dict[str, str] | None = None
) -> str:
    for split in ("train", "test"):
        for number, (pixels, name) in enumerate(content):
            place = root / split / (called or {}).get(name, name)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{number:03}.png")
    return f"imagefolder:{root}"


def write_npz(
    root: Path,
    content: Sequence[Item],
    *,
    order: Sequence[str] = NAMES,
    stated: object = None,
    labels: object = None,
) -> str:
    found: dict[str, object] = {"images": np.stack([pixels for pixels, _ in content])}
    number = {name: k for k, name in enumerate(order)}
    found["labels"] = labels if labels is not None else [number[name] for _, name in content]
    if stated is not None:
        found["class_names"] = stated
    for split in ("train", "test"):
        np.savez(root / f"{split}.npz", **found)  # pyright: ignore[reportArgumentType]
    return f"npz:{root}"


def write_parquet(
    root: Path,
    content: Sequence[Item],
    *,
    order: Sequence[str] = NAMES,
    stated: Sequence[str] | None = None,
    labels: Sequence[object] | None = None,
) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = {name: k for k, name in enumerate(order)}
    cells = []
    for pixels, _ in content:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        cells.append({"bytes": stream.getvalue(), "path": None})
    column = list(labels) if labels is not None else [number[name] for _, name in content]
    table = pa.table({"img": cells, "label": column})
    if stated is not None:
        features = {"label": {"names": list(stated), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({
            "huggingface": json.dumps({"info": {"features": features}})
        })
    for split in ("train", "test"):
        pq.write_table(table, root / f"{split}.parquet", row_group_size=17)
    return f"parquet:{root}"


def as_torchvision(
    patch: pytest.MonkeyPatch, content: Sequence[Item], order: Sequence[str], *, named: bool = True
) -> str:
    """Put content in the place of torchvision's CIFAR10."""
    from torchvision import datasets

    number = {name: k for k, name in enumerate(order)}

    def cifar10(**_: object) -> SimpleNamespace:
        found = SimpleNamespace(
            data=np.stack([pixels for pixels, _ in content]),
            targets=[number[name] for _, name in content],
        )
        if named:
            found.classes = list(order)
        return found

    patch.setattr(datasets, "CIFAR10", cifar10)
    return "cifar10"


def without(*names: str) -> tuple[str, ...]:
    return tuple(name for name in NAMES if name not in names)


def _folder(
    names: Sequence[str] = NAMES, change: Callable[[Path], object] = lambda root: None, **options
) -> Callable[[Path, pytest.MonkeyPatch], str]:
    def build(root: Path, patch: pytest.MonkeyPatch) -> str:
        del patch
        spec = write_folder(root / "data", items(names), **options)
        change(root / "data")
        return spec

    return build


def _npz(names: Sequence[str] = NAMES, **options) -> Callable[[Path, pytest.MonkeyPatch], str]:
    return lambda root, _: write_npz(root, items(names), **options)


def _parquet(names: Sequence[str] = NAMES, **options) -> Callable[[Path, pytest.MonkeyPatch], str]:
    return lambda root, _: write_parquet(root, items(names), **options)


def _vision(
    names: Sequence[str] = NAMES, order: Sequence[str] | None = None, *, named: bool = True
) -> Callable[[Path, pytest.MonkeyPatch], str]:
    return lambda _, patch: as_torchvision(patch, items(names), order or names, named=named)


def _in(*parts: str) -> Callable[[Path], object]:
    # An image in a place where none belongs.
    def change(root: Path) -> None:
        for split in ("train", "test"):
            place = root.joinpath(split, *parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(place, "PNG")

    return change


def _rename(**called: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        for split in ("train", "test"):
            for before, now in called.items():
                (root / split / before).rename(root / split / now)

    return change


def _each(action: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        for split in ("train", "test"):
            action(root / split)

    return change


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def _splits_by_other_names(root: Path) -> None:
    (root / "train").rename(root / "Train")
    (root / "test").rename(root / "Test")


def _group(folder: Path) -> None:
    (folder / "animals").mkdir()
    for name in ("ant", "bee", "dog"):
        (folder / name).rename(folder / "animals" / name)


def _deeper(folder: Path) -> None:
    (folder / "dog" / "day" / "one").mkdir(parents=True)
    for file in sorted((folder / "dog").glob("*.png")):
        file.rename(folder / "dog" / "day" / "one" / file.name)


def _flat(folder: Path) -> None:
    for file in sorted(folder.rglob("*.png")):
        file.rename(folder / file.name)
    for place in sorted(folder.iterdir()):
        if place.is_dir():
            place.rmdir()


def _unreadable(root: Path, patch: pytest.MonkeyPatch) -> str:
    import os

    spec, scan = write_folder(root / "data", items()), os.scandir

    def deny(path="."):
        if Path(os.fspath(path)).name == "dog":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    patch.setattr(os, "scandir", deny)
    return spec


def _two_files(root: Path, patch: pytest.MonkeyPatch) -> str:
    del patch
    spec = write_parquet(root, items(), stated=NAMES)
    for split in ("train", "test"):
        (root / f"{split}.parquet").rename(root / f"{split}-1.parquet")
    write_parquet(root, items(), order=NAMES[::-1], stated=NAMES[::-1])
    for split in ("train", "test"):
        (root / f"{split}.parquet").rename(root / f"{split}-2.parquet")
    return spec


REVERSED = NAMES[::-1]
NUMBERS = {name: str(k) for k, name in enumerate(NAMES)}
CASES = (
    Case("folder: the same", _folder(), OK),
    Case("folder: first class missing", _folder(without("ant")), OK, without("ant")),
    Case("folder: middle class missing", _folder(without("dog")), OK, without("dog")),
    Case("folder: last class missing", _folder(without("fox")), OK, without("fox")),
    Case("folder: one class only", _folder(("dog", "elk")), OK, ("dog", "elk")),
    Case("folder: extra class in front", _folder(
        ("gnu", *NAMES), called={"gnu": "aardvark"}
    ), REFUSED),
    Case("folder: extra class at the end", _folder((*NAMES, "hen")), REFUSED),
    Case("folder: extra empty class", _folder(change=_each(lambda p: (p / "bat").mkdir())), OK),
    Case("folder: a class emptied", _folder(
        change=_each(lambda p: _empty(p / "bee"))
    ), OK, without("bee")),
    Case("folder: a class in capitals", _folder(change=_rename(dog="Dog")), REFUSED),
    Case("folder: a class renamed", _folder(change=_rename(dog="hound")), REFUSED),
    Case("folder: two names exchanged", _folder(
        called={"ant": "fox", "fox": "ant"}
    ), OK, called={"ant": "fox", "fox": "ant"}),
    Case("folder: a name with a blank", _folder(change=_rename(dog="dog ")), REFUSED),
    Case("folder: an accent in two signs", _folder(change=_rename(
        café=unicodedata.normalize("NFD", "café")
    )), OK),
    Case("folder: numbers for names", _folder(called=NUMBERS), POSITIONS),
    Case("folder: numbers, one missing", _folder(without("bee"), called=NUMBERS), REFUSED),
    Case("folder: names in other letters", _folder(called={n: n.upper() for n in NAMES}), REFUSED),
    Case("folder: a hidden folder", _folder(change=_in(".cache", "a.png")), OK),
    Case("folder: a hidden image", _folder(change=_in("ant", "._a.png")), OK),
    Case("folder: notebook checkpoints", _folder(change=_in(".ipynb_checkpoints", "a.png")), OK),
    Case("folder: of macOS", _folder(change=_in("__MACOSX", "ant", "a.png")), OK),
    Case("folder: of a network disk", _folder(change=_in("@eaDir", "a.png")), OK),
    Case("folder: stray in a class", _folder(change=_in("ant", "@eaDir", "a.png")), OK),
    Case("folder: Thumbs.db", _folder(change=_in("ant", "Thumbs.db")), OK),
    Case("folder: lost+found", _folder(change=_in("lost+found", "a.png")), OK),
    Case("folder: an image beside classes", _folder(change=_in("cover.png")), OK),
    Case("folder: Train and Test", _folder(change=_splits_by_other_names), OK),
    Case("folder: classes in a group", _folder(change=_each(_group)), REFUSED),
    Case("folder: a class further down", _folder(change=_each(_deeper)), OK),
    Case("folder: a class that cannot be read", _unreadable, REFUSED, code=6),
    Case("folder: a damaged image", _folder(change=_each(
        lambda p: (p / "ant" / "bad.png").write_bytes(b"\x89PNG cut")
    )), OK),
    Case("folder: no classes", _folder(change=_each(_flat)), UNLABELED),
    Case("folder: no images", _folder(change=_each(lambda p: [
        _empty(c) for c in p.iterdir()
    ])), REFUSED),
    Case("npz: the same", _npz(stated=NAMES), OK),
    Case("npz: other order", _npz(order=REVERSED, stated=REVERSED), OK),
    Case("npz: a class missing", _npz(without("bee"), stated=NAMES), OK, without("bee")),
    Case("npz: a class missing, renumbered", _npz(
        without("bee"), order=without("bee"), stated=without("bee")
    ), OK, without("bee")),
    Case("npz: extra class", _npz(
        (*NAMES, "hen"), order=("hen", *NAMES), stated=("hen", *NAMES)
    ), REFUSED),
    Case("npz: a class renamed", _npz(stated=("ant", "wasp", *NAMES[2:])), REFUSED),
    Case("npz: names as bytes", _npz(stated=np.array([n.encode() for n in NAMES])), OK),
    Case("npz: names as labels", _npz(labels=[n for _, n in items()]), OK),
    Case("npz: names as labels, a class missing", _npz(
        without("ant"), labels=[n for _, n in items(without("ant"))]
    ), OK, without("ant")),
    Case("npz: no names", _npz(), POSITIONS),
    Case("npz: no names, last missing", _npz(without("fox")), REFUSED),
    Case("npz: no names, first missing, renumbered", _npz(
        without("ant"), order=without("ant")
    ), REFUSED),
    Case("npz: no names, extra class", _npz((*NAMES, "hen"), order=(*NAMES, "hen")), REFUSED),
    Case("npz: labels of -1", _npz(labels=np.full(60, -1)), UNLABELED),
    Case("npz: some labels of -1", _npz(labels=np.arange(60) % 7 - 1, stated=NAMES), REFUSED),
    Case("npz: a name too few", _npz(stated=NAMES[:-1]), REFUSED),
    Case("npz: labels from 1", _npz(labels=np.repeat(np.arange(1, 7), 10)), REFUSED),
    Case("npz: a name twice", _npz(stated=("ant", "ant", *NAMES[2:])), REFUSED),
    Case("npz: labels as floats", _npz(labels=np.repeat(np.arange(6.0), 10)), REFUSED),
    Case("npz: labels one-hot", _npz(labels=np.repeat(np.eye(6, dtype=int), 10, axis=0)), REFUSED),
    Case("parquet: the same", _parquet(stated=NAMES), OK),
    Case("parquet: other order", _parquet(order=REVERSED, stated=REVERSED), OK),
    Case("parquet: a class missing, renumbered", _parquet(
        without("dog"), order=without("dog"), stated=without("dog")
    ), OK, without("dog")),
    Case("parquet: extra class", _parquet(
        (*NAMES, "hen"), order=("hen", *NAMES), stated=("hen", *NAMES)
    ), REFUSED),
    Case("parquet: a class renamed", _parquet(stated=(*NAMES[:-1], "vixen")), REFUSED),
    Case("parquet: names as labels", _parquet(labels=[n for _, n in items()]), OK),
    Case("parquet: no names", _parquet(), POSITIONS),
    Case("parquet: no names, a class missing", _parquet(without("fox")), REFUSED),
    Case("parquet: labels of -1", _parquet(labels=[-1] * 60), UNLABELED),
    Case("parquet: files with other names", _two_files, REFUSED),
    Case("torchvision: the same", _vision(), OK),
    Case("torchvision: other order", _vision(order=REVERSED), OK),
    Case("torchvision: a class missing", _vision(without("elk")), OK, without("elk")),
    Case("torchvision: extra class", _vision((*NAMES, "hen")), REFUSED),
    Case("torchvision: no names", _vision(named=False), REFUSED),
)  # fmt: skip
