"""Images that are decoded when they are asked for are those that are decoded at once."""

from pathlib import Path

import numpy as np
import pytest

from robustcl.core.errors import InputError
from robustcl.data import load_data
from robustcl.data.dataset import Dataset
from robustcl.data.streamed_images import StreamedImages
from tests.data.test_loading import picture, png, write_parquet


def both(spec: str, monkeypatch: pytest.MonkeyPatch, **options: object) -> tuple[Dataset, Dataset]:
    held = load_data(spec, **options)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr("robustcl.data.streamed_images._MOST_BYTES", 0)
    streamed = load_data(spec, **options)  # pyright: ignore[reportArgumentType]
    assert isinstance(held.images, np.ndarray) and isinstance(streamed.images, StreamedImages)
    return held, streamed


def same(held: Dataset, streamed: Dataset) -> None:
    assert held.images.shape == streamed.images.shape
    np.testing.assert_array_equal(held.images, np.asarray(streamed.images)[:])
    for one, other in zip(held.batches(3), streamed.batches(3), strict=True):
        assert one.images.equal(other.images) and one.labels.equal(other.labels)
    rows = np.array([5, 0, 5, 2])
    np.testing.assert_array_equal(held.select(rows).images, streamed.select(rows).images[:])


def test_parquet_in_several_files_and_row_groups(tmp_path: Path, monkeypatch) -> None:
    import pyarrow.parquet as pq

    for part in range(2):
        cells = [{"bytes": png(10 * part + k), "path": None} for k in range(7)]
        place = tmp_path / f"train-0000{part}-of-00002.parquet"
        write_parquet(place, cells, [0, 1, 0, 1, 1, 0, 1])
        pq.write_table(pq.read_table(place), place, row_group_size=3)
    held, streamed = both(f"parquet:{tmp_path}", monkeypatch, split="train")
    assert np.asarray(held.images)[:, 0, 0, 0].tolist() == [*range(7), *range(10, 17)]
    same(held, streamed)
    few = load_data(f"parquet:{tmp_path}", split="train", limit=4)
    assert len(few) == 4 and few.hash() != streamed.hash()


def test_folders_with_gray_images_among_the_colored(tmp_path: Path, monkeypatch) -> None:
    for number in range(8):
        mode = "L" if number < 6 else "RGB"
        picture(30 + number, size=(9 + number, 12), mode=mode).save(tmp_path / f"{number}.png")
    held, streamed = both(f"imagefolder:{tmp_path},size=8,split=all", monkeypatch)
    assert streamed.image_shape == (3, 8, 8)
    same(held, streamed)
    with pytest.raises(InputError, match="size=N"):
        load_data(f"imagefolder:{tmp_path},split=all")


def test_the_hash_follows_files_and_choice(tmp_path: Path, monkeypatch) -> None:
    for number in range(6):
        picture(number).save(tmp_path / f"{number}.png")
    spec = f"imagefolder:{tmp_path},split=all"
    _, first = both(spec, monkeypatch)
    assert first.hash() == load_data(spec).hash()
    assert first.hash() != first.select(np.arange(5)).hash()
    assert first.hash() != load_data(f"{spec},size=6").hash()
    picture(99).save(tmp_path / "3.png")
    assert first.hash() != load_data(spec).hash()


def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("robustcl.data.streamed_images._MOST_BYTES", 0)
    for number in range(3):
        picture(number, size=(40, 40)).save(tmp_path / f"{number}.png")
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])  # its head is whole
    data = load_data(f"imagefolder:{tmp_path},split=all")
    with pytest.raises(InputError, match=r"1\.png cannot be decoded"):
        list(data.batches(2))
    (tmp_path / "2.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2\.png cannot be decoded"):
        load_data(f"imagefolder:{tmp_path},split=all")
