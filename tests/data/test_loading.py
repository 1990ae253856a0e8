"""Every source, on small files made here."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustcl.core.errors import InputError
from robustcl.data import SOURCES, load_data, torchvision_data
from robustcl.data.images import decode


def picture(value: int, *, size: tuple[int, int] = (6, 6), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, value if mode == "L" else (value, value // 2, 0))


def png(value: int, **options: object) -> bytes:
    file = io.BytesIO()
    picture(value, **options).save(file, format="PNG")  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def write_parquet(
    path: Path, cells: Sequence[object], labels: list[int], *, names: bool = True
) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"img": cells, "label": labels})
    if names:
        features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
        described = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": described})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def test_digits_split_once_and_for_all() -> None:
    train, test = (load_data("digits", split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (1347, 450) and train.image_shape == (1, 8, 8)
    assert train.images.dtype == np.uint8 and np.asarray(train.images).max() == 255
    assert len(train.class_names) == 10
    assert load_data("digits").hash() == test.hash() != load_data("digits", seed=1).hash()


def test_limit_says_which_rows_it_drew() -> None:
    whole, few = load_data("digits"), load_data("digits", limit=7)
    assert whole.rows is None and few.rows is not None and len(few) == 7
    assert np.array_equal(few.images, whole.images[few.rows])
    assert np.array_equal(few.labels, whole.labels[few.rows])


def test_the_old_rule_takes_the_first() -> None:
    whole, few = load_data("digits"), load_data("digits", limit=7, draw="first")
    assert len(few) == 7 and np.array_equal(few.images, whole.images[:7])


def test_parquet_folder(tmp_path: Path) -> None:
    for split, values in (("train", [10, 20, 30]), ("test", [40, 50])):
        cells = [{"bytes": png(value), "path": None} for value in values]
        write_parquet(tmp_path / f"{split}.parquet", cells, [0, 1, 0][: len(values)])
    data = load_data(f"parquet:{tmp_path}", split="train")
    assert np.asarray(data.images)[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert data.class_names == ("cat", "dog") and data.labels.tolist() == [0, 1, 0]
    assert len(load_data(f"parquet:{tmp_path}", limit=1)) == 1
    test_file = load_data(f"parquet:{tmp_path / 'test.parquet'}")
    assert np.asarray(test_file.images)[:, 0, 0, 0].tolist() == [40, 50]
    with pytest.raises(InputError, match="no 'train' split"):
        load_data(f"parquet:{tmp_path / 'test.parquet'}", split="train")


def test_parquet_hub_layout_with_paths(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(png(9))
    cells = [{"bytes": None, "path": "a.png"}]
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", cells, [1], names=False)
    data = load_data(f"parquet:{tmp_path}")
    assert data.images[0, 0, 0, 0] == 9 and data.class_names == ()


def test_parquet_single_file_is_split(tmp_path: Path) -> None:
    cells = [{"bytes": png(value), "path": None} for value in range(20)]
    write_parquet(tmp_path / "all.parquet", cells, [0, 1] * 10)
    spec = f"parquet:{tmp_path / 'all.parquet'}"
    sides = [
        np.asarray(load_data(spec, split=split).images)[:, 0, 0, 0] for split in ("train", "test")
    ]
    assert sorted(np.concatenate(sides).tolist()) == list(range(20)) and len(sides[1]) == 4
    assert len(load_data(f"{spec},split=all")) == 20


def test_parquet_errors(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test.parquet", [{"bytes": b"no image", "path": None}], [0])
    with pytest.raises(InputError, match=r"row 0 of test\.parquet cannot be decoded"):
        load_data(f"parquet:{tmp_path}")
    with pytest.raises(InputError, match="train"):
        load_data(f"parquet:{tmp_path}", split="train")
    with pytest.raises(InputError, match="no file or folder"):
        load_data(f"parquet:{tmp_path / 'absent'}")
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(InputError, match="not a parquet file"):
        load_data(f"parquet:{tmp_path / 'text.parquet'}")


@pytest.mark.parametrize("cell", ["a.png", [1, 2], 7])
def test_parquet_images_of_another_type(tmp_path: Path, cell: object) -> None:
    write_parquet(tmp_path / "test.parquet", [cell], [0])
    with pytest.raises(InputError, match="images of type"):
        load_data(f"parquet:{tmp_path}")


def test_parquet_columns_and_names(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    place, image = tmp_path / "test.parquet", pa.array([png(1)])
    table = pa.table([image, pa.array([0]), pa.array([0])], names=["img", "label", "label"])
    pq.write_table(table, place)
    with pytest.raises(InputError, match="two columns called 'label'"):
        load_data(f"parquet:{tmp_path}")
    for names in ([1, 2], "ab", {"0": "cat"}):
        described = json.dumps({"info": {"features": {"label": {"names": names}}}}).encode()
        table = pa.table({"img": image, "label": [0]})
        pq.write_table(table.replace_schema_metadata({b"huggingface": described}), place)
        with pytest.raises(InputError, match="write a list of strings"):
            load_data(f"parquet:{tmp_path}")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [png(1)], "label": [0]}, "expected one called img"),
        ({"img": [png(1)], "labels": [0]}, "expected one called label"),
        ({"img": [png(1)], "label": ["cat"]}, "labels of other types"),
        ({"img": ["a.png"], "label": [0]}, "test-1.parquet' has images of type string"),
    ],
)
def test_parquet_files_of_one_split_agree(tmp_path: Path, columns: dict, message: str) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    write_parquet(tmp_path / "test-0.parquet", [png(1)], [0], names=False)
    pq.write_table(pa.table(columns), tmp_path / "test-1.parquet")
    with pytest.raises(InputError, match=message):
        load_data(f"parquet:{tmp_path}")


def test_damaged_parquet_is_refused_wherever_the_damage_is(tmp_path: Path) -> None:
    place = tmp_path / "test.parquet"
    write_parquet(place, [png(k) for k in range(3)], [0, 1, 0])
    whole, refused = place.read_bytes(), 0
    for position in range(0, len(whole), 7):
        place.write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
        try:
            load_data(f"parquet:{tmp_path}")
        except InputError:
            refused += 1
    assert refused > 20


def test_imagefolder_with_its_own_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label, name in enumerate(("bee", "ant")):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                picture(100 * label + number).save(folder / f"{number}.png")
    data = load_data(f"imagefolder:{tmp_path}")
    assert data.class_names == ("ant", "bee") and data.labels.tolist() == [0, 1] * 3
    assert np.asarray(data.images)[:, 0, 0, 0].tolist() == [100, 0, 101, 1, 102, 2]


def test_imagefolder_size_and_unlabeled(tmp_path: Path) -> None:
    for number in range(5):
        picture(50 + number, size=(10 + number, 20), mode="L").save(tmp_path / f"{number}.png")
    with pytest.raises(InputError, match="size=N"):
        load_data(f"imagefolder:{tmp_path}", split="train")
    data = load_data(f"imagefolder:{tmp_path},size=8,split=all")
    assert data.image_shape == (1, 8, 8) and len(data) == 5 and not data.labeled
    assert np.asarray(data.images)[:, 0, 0, 0].tolist() == [50, 51, 52, 53, 54]


def test_size_takes_the_center() -> None:
    wide = np.zeros((4, 12, 3), dtype=np.uint8)
    wide[:, 4:8] = 200
    file = io.BytesIO()
    Image.fromarray(wide).save(file, format="PNG")
    assert (decode([file.getvalue()], names=["wide"], size=4) == 200).all()


def test_jpeg_contents_decode_as_pil_decodes_them() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for mode in ("RGB", "L", "CMYK"):
        file = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(file, format="JPEG", quality=75)
        with Image.open(file) as image:
            expected = np.asarray(image.convert("L" if mode == "L" else "RGB"))
        ours = decode([file.getvalue()], names=["x"])[0]
        assert np.array_equal(ours, expected.reshape(ours.shape))
    with pytest.raises(InputError, match="cut cannot be decoded"):
        decode([file.getvalue()[:40]], names=["cut"])


def test_mixed_gray_and_color_become_color() -> None:
    both = decode([png(7), png(7, mode="L")], names=["color", "gray"])
    assert both.shape == (2, 6, 6, 3) and (both[1] == 7).all()


def test_npz(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((10, 3, 5, 5))
    labels = np.arange(10) % 2
    np.savez(tmp_path / "a.npz", images=images, labels=labels, class_names=["x", "y"])
    data = load_data(f"npz:{tmp_path / 'a.npz'},split=all")
    assert data.image_shape == (3, 5, 5) and data.class_names == ("x", "y")
    assert np.allclose(np.transpose(data.images, (0, 3, 1, 2)), images, atol=1e-7)
    sizes = [len(load_data(f"npz:{tmp_path / 'a.npz'}", split=s)) for s in ("train", "test")]
    assert sizes == [8, 2]
    np.savez(tmp_path / "test.npz", images=images[:, 0], labels=labels)
    assert load_data(f"npz:{tmp_path}").image_shape == (1, 5, 5)


def test_npz_errors(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", images=np.array([{}], dtype=object), labels=np.zeros(1, int))
    with pytest.raises(InputError, match="pickles are refused"):
        load_data(f"npz:{tmp_path / 'p.npz'}")
    np.savez(tmp_path / "m.npz", images=np.zeros((2, 4, 4, 1)))
    with pytest.raises(InputError, match="lacks labels"):
        load_data(f"npz:{tmp_path / 'm.npz'}")
    (tmp_path / "t.npz").write_text("text")
    with pytest.raises(InputError, match="cannot be read"):
        load_data(f"npz:{tmp_path / 't.npz'}")


def test_unknown_sources_name_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        load_data("imagnet")
    assert all(source in str(caught.value) for source in SOURCES)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digits:x", "unknown data source"),
        ("parquet:", "no path"),
        ("npz:absent.npz", "there is no file"),
        ("imagefolder:absent", "there is no folder"),
        ("imagefolder:x,size=0", "whole number"),
        ("npz:x,labels=3", "unknown option 'labels'"),
        ("npz:x,split=train", "only split=all"),
    ],
)
def test_refuses_specifications(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_data(spec)


def test_refuses_split_and_limit() -> None:
    with pytest.raises(InputError, match="'valid'"):
        load_data("digits", split="valid")
    with pytest.raises(InputError, match="limit 0"):
        load_data("digits", limit=0)


@pytest.mark.parametrize("name", ["cifar10", "mnist", "svhn", "stl10"])
def test_absent_torchvision_data_names_the_cure(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="allow the download"):
        load_data(name, root=tmp_path)


def test_torchvision_name_is_checked() -> None:
    with pytest.raises(InputError, match="torchvision offers"):
        torchvision_data("imagenet")
