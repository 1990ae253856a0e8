"""Folders of images: what counts as a class, and what is left out or refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustcl.core.errors import InputError
from robustcl.data import load_data


def fill(folder: Path, *, count: int = 2, value: int = 9) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (4, 4), (value, number, 0)).save(folder / f"{number}.png")
    return folder


def two_classes(root: Path) -> Path:
    fill(root / "ant", value=1)
    fill(root / "bee", value=2)
    return root


STRAY = [".ipynb_checkpoints", ".DS_Store", "__MACOSX", "@eaDir", "lost+found", "__pycache__"]


@pytest.mark.parametrize("name", STRAY)
def test_what_others_leave_behind_is_no_class(tmp_path: Path, name: str) -> None:
    two_classes(tmp_path)
    fill(tmp_path / name)
    fill(tmp_path / "ant" / name)
    data = load_data(f"imagefolder:{tmp_path},split=all")
    assert data.class_names == ("ant", "bee") and len(data) == 4


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    two_classes(tmp_path)
    for name in ("._0.png", ".hidden.jpg"):
        (tmp_path / "ant" / name).write_bytes(b"no image")
    assert len(load_data(f"imagefolder:{tmp_path},split=all")) == 4


def test_an_empty_class_and_loose_images_are_said(tmp_path: Path) -> None:
    two_classes(tmp_path)
    (tmp_path / "cow").mkdir()
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("none yet")
    Image.new("RGB", (4, 4)).save(tmp_path / "cover.png")
    data = load_data(f"imagefolder:{tmp_path},split=all")
    assert data.class_names == ("ant", "bee") and len(data) == 4
    assert any("'cow', 'dog'" in note for note in data.notes)
    assert any("left out 1 image beside the class folders" in note for note in data.notes)


def test_files_that_are_no_images_by_name_are_said(tmp_path: Path) -> None:
    two_classes(tmp_path)
    assert not load_data(f"imagefolder:{tmp_path},split=all").notes
    (tmp_path / "ant" / "0.png").rename(tmp_path / "ant" / "0.jfif")
    (tmp_path / "bee" / "1.png").rename(tmp_path / "bee" / "1")
    (note,) = load_data(f"imagefolder:{tmp_path},split=all").notes
    assert note == "left out 2 files that do not end as images do: '', '.jfif'"


@pytest.mark.parametrize(
    "names", [("Train", "Test"), ("training", "validation"), ("TRAIN", "TEST"), ("train", "val")]
)
def test_splits_by_other_names_are_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    two_classes(tmp_path / names[0])
    fill(two_classes(tmp_path / names[1]) / "ant", count=5)
    for split, name, count in (("train", names[0], 4), ("test", names[1], 7)):
        data = load_data(f"imagefolder:{tmp_path}", split=split)
        assert data.class_names == ("ant", "bee") and len(data) == count
        told = [note for note in data.notes if f"is the folder {name!r}" in note]
        assert bool(told) == (name != split)


def test_a_lone_split_is_not_taken_for_the_other(tmp_path: Path) -> None:
    two_classes(tmp_path / "val")
    with pytest.raises(InputError, match=r"'val' but no 'train'.*PATH/val,split=all"):
        load_data(f"imagefolder:{tmp_path}", split="train")
    assert len(load_data(f"imagefolder:{tmp_path}", split="test")) == 4


def test_of_test_and_val_test_is_taken_and_said(tmp_path: Path) -> None:
    for count, name in enumerate(("train", "val", "test"), start=2):
        fill(tmp_path / name / "ant", count=count)
        fill(tmp_path / name / "bee", count=count)
    data = load_data(f"imagefolder:{tmp_path}", split="test")
    assert len(data) == 8 and any("'val' is left aside" in note for note in data.notes)


def test_a_class_called_train_is_asked_about(tmp_path: Path) -> None:
    for name in ("train", "bus", "car"):
        fill(tmp_path / name)
    with pytest.raises(InputError, match="may be a split or a class"):
        load_data(f"imagefolder:{tmp_path}", split="train")
    for split in ("train", "test"):
        for name in ("train", "bus", "car"):
            fill(tmp_path / "sorted" / split / name)
    data = load_data(f"imagefolder:{tmp_path / 'sorted'}", split="train")
    assert data.class_names == ("bus", "car", "train")


def test_images_further_down_belong_to_the_class_on_top(tmp_path: Path) -> None:
    fill(tmp_path / "ant" / "deep" / "er")
    fill(tmp_path / "bee")
    data = load_data(f"imagefolder:{tmp_path},split=all")
    assert data.class_names == ("ant", "bee") and np.bincount(data.labels).tolist() == [2, 2]


def test_an_unreadable_folder_is_refused(tmp_path: Path, monkeypatch) -> None:
    two_classes(tmp_path)
    scan = os.scandir

    def deny(path="."):
        if Path(os.fspath(path)).name == "bee":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(InputError, match=r"bee' cannot be read \(Permission denied\)"):
        load_data(f"imagefolder:{tmp_path},split=all")


def test_a_folder_of_hidden_images_says_so(tmp_path: Path) -> None:
    fill(tmp_path / ".thumbnails")
    with pytest.raises(InputError, match="1 hidden or stray entries do not count"):
        load_data(f"imagefolder:{tmp_path}")


def test_images_without_classes_have_no_labels(tmp_path: Path) -> None:
    fill(tmp_path, count=5)
    data = load_data(f"imagefolder:{tmp_path},split=all")
    assert not data.labeled and set(data.labels.tolist()) == {-1} and data.class_names == ()
    assert not load_data(f"imagefolder:{tmp_path},split=all", limit=3, classes=("a", "b")).labeled
