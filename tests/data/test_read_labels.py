"""Labels as files hold them: integers, names, none."""

from pathlib import Path

import numpy as np
import pytest

from robustcl.core.errors import InputError
from robustcl.data import load_data

IMAGES = np.zeros((4, 3, 3, 1), dtype=np.uint8)


def saved(place: Path, **arrays: object) -> str:
    np.savez(place / "a.npz", images=IMAGES, **arrays)  # pyright: ignore[reportArgumentType]
    return f"npz:{place / 'a.npz'},split=all"


def test_names_in_place_of_numbers(tmp_path: Path) -> None:
    data = load_data(saved(tmp_path, labels=np.array(["dog", "cat", "cat", "emu"])))
    assert data.class_names == ("cat", "dog", "emu") and data.labels.tolist() == [1, 0, 0, 2]
    stated = np.array([b"dog", b"cat", b"emu"])
    data = load_data(saved(tmp_path, labels=np.array(["dog", "cat", "cat", "emu"]),
                           class_names=stated))  # fmt: skip
    assert data.class_names == ("dog", "cat", "emu") and data.labels.tolist() == [0, 1, 1, 2]
    with pytest.raises(InputError, match="label 'emu', which is not among its class names"):
        load_data(saved(tmp_path, labels=np.array(["dog", "cat", "cat", "emu"]),
                        class_names=stated[:2]))  # fmt: skip


def test_minus_one_throughout_means_no_labels(tmp_path: Path) -> None:
    assert not load_data(saved(tmp_path, labels=np.full(4, -1))).labeled
    with pytest.raises(InputError, match="label -1"):
        load_data(saved(tmp_path, labels=np.array([0, 1, -1, 0])))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.zeros(4)}, "labels of type float64"),
        ({"labels": np.zeros(4, bool)}, "labels of type bool"),
        ({"labels": np.eye(4, dtype=int)}, "labels of shape"),
        ({"labels": np.zeros(3, int)}, "labels of shape"),
        ({"labels": np.zeros(4, int), "class_names": np.array("cat")}, "class_names of shape"),
        ({"labels": np.zeros(4, int), "class_names": np.arange(2)}, "class_names of shape"),
        ({"labels": np.array([0, 1, 2, 2]), "class_names": np.array(["a", "b"])}, "2 class names"),
    ],
)
def test_other_labels_are_refused(tmp_path: Path, arrays: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_data(saved(tmp_path, **arrays))


def test_marks_of_a_missing_label_are_no_labels_of_their_own(tmp_path: Path) -> None:
    # As int64 the largest uint64 is -1, which would say that no image has a label.
    for mark in (2**64 - 1, 2**63, 2**32):
        with pytest.raises(InputError, match=f"label {mark}, beyond"):
            load_data(saved(tmp_path, labels=np.full(4, mark, dtype=np.uint64)))
    with pytest.raises(InputError, match=r"label 2, but 2 class names; number the classes from 0"):
        load_data(saved(tmp_path, labels=np.array([0, 1, 2, 2]), class_names=np.array(["a", "b"])))


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64])
def test_integers_of_every_width(tmp_path: Path, kind: type) -> None:
    assert load_data(saved(tmp_path, labels=np.arange(4, dtype=kind))).labels.tolist() == [
        0,
        1,
        2,
        3,
    ]
