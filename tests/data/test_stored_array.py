"""Arrays of others: archives and headers that do not hold what they say."""

from pathlib import Path

import numpy as np
import pytest

from robustcl.core.errors import InputError
from robustcl.data import load_data
from robustcl.data.corruptions import cifar10c
from robustcl.data.dataset import Dataset
from robustcl.data.stored_array import map_npy, read_npy, read_npz
from tests.fuzz.build_data import bad_npz, npy, npz, npz_bomb, odd_entries


def test_bad_archives_are_refused_in_one_line(tmp_path: Path) -> None:
    for number, (kind, content) in enumerate(bad_npz().items()):
        place = tmp_path / f"{number}.npz"
        place.write_bytes(content)
        with pytest.raises(InputError) as caught:
            load_data(f"npz:{place},split=all")
        text = str(caught.value)
        assert place.stem in text and "\n" not in text and "unexpected" not in text, (kind, text)


def test_a_header_is_compared_with_its_file(tmp_path: Path) -> None:
    place = tmp_path / "x.npy"
    for shape in ("(9,)", "(10000000000,)", "(-8,)", "(-1, -8)"):
        place.write_bytes(npy(shape, data=bytes(8)))
        for read in (read_npy, map_npy):
            with pytest.raises(InputError, match=r"says that it has the shape .* holds 8 bytes"):
                read(place)
    place.write_bytes(npy("(8,)", data=bytes(8)))
    assert read_npy(place).shape == map_npy(place).shape == (8,)


def test_good_archives_are_read_in_every_order(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((4, 8, 8, 3))
    labels, place = np.array([0, 1, 0, 1]), tmp_path / "x.npz"
    for stored in (images, np.asfortranarray(images), images.astype(">f4"), images.astype("f2")):
        for packed in (True, False):
            place.write_bytes(
                npz({"images": stored, "labels": labels.astype(">i2")}, packed=packed)
            )
            data = load_data(f"npz:{place},split=all")
            assert np.allclose(np.asarray(data.images), images, atol=1e-3)
            assert data.labels.tolist() == [0, 1, 0, 1]


def test_what_unpacks_to_far_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustcl.data.stored_array._LARGE", 10**6)
    place = tmp_path / "x.npz"
    place.write_bytes(npz_bomb(2 * 10**6))
    with pytest.raises(InputError, match=r"'images' in .* unpacks .* bytes to 2,\d+,\d+"):
        load_data(f"npz:{place},split=all")
    images = np.zeros((292, 32, 32, 3), dtype=np.uint8)
    place.write_bytes(npz({"images": images, "labels": np.zeros(292, dtype=int)}))
    assert len(load_data(f"npz:{place},split=all")) == 292


def test_more_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustcl.core.memory.available_memory", lambda: 1000)
    np.save(tmp_path / "x.npy", np.zeros(600, dtype=np.uint8))
    with pytest.raises(InputError, match="would take"):
        read_npy(tmp_path / "x.npy")
    assert map_npy(tmp_path / "x.npy").shape == (600,)  # mapped, so nothing is taken


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    for number, make in enumerate(odd_entries().values()):
        place = tmp_path / str(number)
        make(place)
        for read in (read_npy, map_npy, lambda p: read_npz(p, ("a",))):
            with pytest.raises(InputError):
                read(place)


def test_corrupted_sets_hold_what_they_say(tmp_path: Path) -> None:
    clean = Dataset("cifar10/test", np.zeros((2, 32, 32, 3), dtype=np.uint8), np.array([3, 4]))
    fog = tmp_path / "fog.npy"
    np.save(tmp_path / "labels.npy", np.array([3, 4]))
    np.save(fog, np.full((2, 32, 32, 3), 7, dtype=np.uint8))
    assert int(np.asarray(cifar10c(tmp_path, "fog", 1, clean).images).max()) == 7
    for severity in (0, 6, -1):
        with pytest.raises(InputError, match="from 1 to 5"):
            cifar10c(tmp_path, "fog", severity, clean)
    for content in (b"", npy("(50000, 32, 32, 3)"), npy("(2,)", dtype="'|O'", data=bytes(99))):
        fog.write_bytes(content)
        with pytest.raises(InputError, match="fog"):
            cifar10c(tmp_path, "fog", 1, clean)
    np.save(fog, np.zeros((2, 32, 32, 3), dtype=np.uint8))
    for labels in (np.array([3.0, 4.0]), np.array([3]), np.zeros((2, 2), int), np.array([4, 3])):
        np.save(tmp_path / "labels.npy", labels)
        with pytest.raises(InputError, match="labels"):
            cifar10c(tmp_path, "fog", 1, clean)
