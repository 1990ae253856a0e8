"""Folders of others: pipes, devices, links, and names that are no text; option texts too."""

import sys
from pathlib import Path

import numpy as np
import pytest

from robustcl.core.errors import InputError
from robustcl.data import load_data, stratified_split, torchvision_data
from robustcl.data.splits import split_rows
from robustcl.data.subsets import label_subset
from tests.fuzz.build_data import NOWHERE, encoded, image_folder, odd_entries

ENDLESS = "a" * 100_000
PATHS = ("absent", "a\0b", "\udce9", ENDLESS, "a/" * 3000, "/dev/zero", "/dev/stdin", NOWHERE)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    for number, (kind, make) in enumerate(odd_entries().items()):
        folder = image_folder(tmp_path / f"classes{number}")
        make(folder / "ant" / "x.png")
        loose = tmp_path / f"loose{number}"
        loose.mkdir()
        make(loose / "x.png")
        for place in (folder, loose):
            with pytest.raises(InputError, match=r"x\.png' (is|cannot)") as caught:
                load_data(f"imagefolder:{place},split=all")
            assert "remove it from the images" in str(caught.value), kind


def test_links_are_followed_and_told(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "data")
    (tmp_path / "far.png").write_bytes(encoded())
    (folder / "ant" / "far.png").symlink_to(tmp_path / "far.png")
    (folder / "bee" / "near.png").symlink_to(folder / "ant" / "0.png")
    (folder / "bee" / "up").symlink_to("..")  # a ring
    data = load_data(f"imagefolder:{folder},split=all")
    assert len(data) == 8 and data.notes == ("1 image is a link out of 'data': 'far.png'",)


def test_class_names_are_text(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "data", (NOWHERE.replace("/", ""), "bee"))
    assert NOWHERE.replace("/", "") in load_data(f"imagefolder:{folder},split=all").class_names
    image_folder(tmp_path / "other", ("caf\udce9", "bee"))
    with pytest.raises(InputError, match="not UTF-8"):
        load_data(f"imagefolder:{tmp_path / 'other'},split=all")


def test_any_specification_is_refused_in_one_line(tmp_path: Path) -> None:
    sizes = ("", "0", "-1", "1e9", "1e400", "abc", "9" * 5000, "8193", "٣", "8/2", "true", "nan")
    specs = [f"{source}:{path}" for source in ("npz", "parquet", "imagefolder") for path in PATHS]
    specs += [f"imagefolder:{tmp_path},size={size}" for size in sizes]
    specs += [f"parquet:{tmp_path},size={size}" for size in sizes]
    specs += ["", ":", ",", "npz:", "npz:,", "npz:=", "npz:a,split=", "digits:", "digits,colour=3"]
    specs += [NOWHERE, ENDLESS, "\0", "\udce9", f"npz:{tmp_path}", f"npz:{tmp_path},{ENDLESS}=1"]
    for spec in specs:
        with pytest.raises(InputError) as caught:
            load_data(spec)
        assert "Traceback" not in str(caught.value), spec[:50]


def test_splits_need_labels() -> None:
    for labels in (np.array([0, -1]), np.array([0.0, np.nan]), np.zeros((2, 2), dtype=int)):
        with pytest.raises(InputError, match="label"):
            stratified_split(labels)
        with pytest.raises(InputError, match="label"):
            split_rows(labels, "train", seed=0)
    with pytest.raises(InputError, match="labels from -1 to 0"):
        label_subset(np.array([0, -1]), 0.5, num_classes=2)
    with pytest.raises(InputError, match="labels from 0 to 7"):
        label_subset(np.array([0, 7]), 0.5, num_classes=2)


def test_damaged_files_of_torchvision_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    names = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    names += ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    images = b"\0\0\x08\x03" + b"\0\0\0\x02" + b"\0\0\0\x1c" * 2 + bytes(2 * 28 * 28)
    few, many = b"\0\0\x08\x01\0\0\0\x01\1", b"\0\0\x08\x01\0\0\0\x02\1\2"
    for parts in ((b"", b""), (b"x" * 50, many), (images[:99], many), (images, few)):
        for name, content in zip(names, parts * 2, strict=True):
            (raw / name).write_bytes(content)
        with pytest.raises(InputError, match="mnist"):
            torchvision_data("mnist", root=tmp_path)
    for name, content in zip(names, (images, many) * 2, strict=True):
        (raw / name).write_bytes(content)
    assert torchvision_data("mnist", root=tmp_path).labels.tolist() == [1, 2]
    module = sys.modules["robustcl.data._torchvision"]  # its name is that of a function too
    monkeypatch.setattr(module, "_MOST_BYTES", 100)
    with pytest.raises(InputError, match="more than 100 bytes"):
        torchvision_data("mnist", root=tmp_path)
