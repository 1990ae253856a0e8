"""Folders as people have them: the right classes, counts and pixels, or one line of refusal."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustcl.core.errors import InputError
from robustcl.data import load_data
from robustcl.workflows.outputs import refuse_inside_data

LEVELS = {"ant": 40, "bee": 160}


def picture(level: int, *, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Image.Image:
    value = {"RGB": (level, level, level), "L": level, "LA": (level, 255)}.get(mode)
    if value is None:
        return Image.new("RGB", size, (level, level, level)).convert(mode)
    return Image.new(mode, size, value)


def fill(folder: Path, level: int, count: int = 2, *, ending: str = "png", **options) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture(level, **options).save(folder / f"{level}-{number}.{ending}")


def classes(root: Path, count: int = 2, **options) -> None:
    for name, level in LEVELS.items():
        fill(root / name, level, count, **options)


def flat(root: Path, count: int = 2) -> list[tuple[str, str]]:
    for level in LEVELS.values():
        fill(root, level, count)
    return [(f"{level}-{n}.png", name) for name, level in LEVELS.items() for n in range(count)]


def check(spec: str, *, counts: tuple[int, int], split: str = "test", tolerance: int = 2) -> None:
    data = load_data(spec, split=split, strict=False)
    assert data.class_names in (("ant", "bee"), ())
    assert np.bincount(data.labels, minlength=2).tolist() == list(counts)
    means = np.asarray(data.images).reshape(len(data), -1).mean(axis=1)
    wanted = np.array(list(LEVELS.values()))[data.labels]
    assert np.abs(means - wanted).max() <= tolerance, (means, wanted)


def csv_table(header: str, separator: str = ",") -> Callable[[Path], str]:
    def build(root: Path) -> str:
        rows = [separator.join(row) for row in flat(root)]
        (root / "labels.csv").write_text("\n".join([header, *rows] if header else rows) + "\n")
        return f"{root},split=all"

    return build


def json_table(of: Callable[[list[tuple[str, str]]], object], name: str) -> Callable[[Path], str]:
    def build(root: Path) -> str:
        rows = flat(root)
        lines = name.endswith("jsonl")
        content = of(rows)
        text = "\n".join(map(json.dumps, content)) if lines else json.dumps(content)  # pyright: ignore[reportArgumentType]
        (root / name).write_text(text)
        return f"{root},split=all"

    return build


def splits(train: str, test: str) -> Callable[[Path], str]:
    def build(root: Path) -> str:
        classes(root / train, 4)
        classes(root / test)
        return str(root)

    return build


def with_classes(spec: str, **options) -> Callable[[Path], str]:
    def build(root: Path) -> str:
        classes(root, **options)
        return spec.format(root)

    return build


def mixed(root: Path) -> str:
    for number, mode in enumerate(("RGB", "L", "P", "RGBA", "CMYK", "1", "LA", "YCbCr")):
        if mode == "1":
            continue
        for name, level in LEVELS.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            ending = {"CMYK": "jpg", "YCbCr": "jpg", "LA": "png"}.get(mode, "png")
            picture(level, size=(8 + number, 12), mode=mode).save(
                root / name / f"{number}.{ending}"
            )
    return f"{root},split=all,size=8"


def nested(root: Path) -> str:
    for name, level in LEVELS.items():
        fill(root / name / "2024" / "camera", level)
    return f"{root},split=all"


def with_bad(root: Path) -> str:
    classes(root)
    (root / "ant" / "bad.png").write_bytes(b"no image")
    cut = (root / "bee" / "160-0.png").read_bytes()
    (root / "bee" / "cut.png").write_bytes(cut[:40])
    return f"{root},split=all"


def with_stray(root: Path) -> str:
    classes(root)
    for place in (root / ".DS_Store", root / "ant" / "Thumbs.db", root / "README.md"):
        place.write_text("x")
    fill(root / "__MACOSX", 9)
    return f"{root},split=all"


def upper(root: Path) -> str:
    for name, level in LEVELS.items():
        fill(root / name, level, ending="PNG")
        fill(root / name, level + 1, ending="JPEG")
    return f"{root},split=all"


def tar(json_labels: bool, train: bool) -> Callable[[Path], str]:
    def build(root: Path) -> str:
        root.mkdir(parents=True, exist_ok=True)
        names = ("train-0.tar", "val-0.tar") if train else ("all.tar",)
        for file in names:
            with tarfile.open(root / file, "w") as archive:
                for number, (name, level) in enumerate(LEVELS.items()):
                    for copy in range(2):
                        stream = io.BytesIO()
                        picture(level).save(stream, "PNG")
                        label = json.dumps({"label": number}) if json_labels else name
                        key = f"data/{name}{copy}"
                        for ending, content in (
                            ("png", stream.getvalue()),
                            ("json" if json_labels else "cls", label.encode()),
                        ):
                            info = tarfile.TarInfo(f"{key}.{ending}")
                            info.size = len(content)
                            archive.addfile(info, io.BytesIO(content))
        return str(root) if train else f"{root},split=all"

    return build


def hub(with_splits: bool) -> Callable[[Path], str]:
    def build(root: Path) -> str:
        datasets = pytest.importorskip("datasets", reason="needs the datasets library")
        rows = [(number, level) for number, level in enumerate(LEVELS.values()) for _ in range(2)]
        features = datasets.Features({
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(LEVELS)),
        })
        one = datasets.Dataset.from_dict(
            {"image": [picture(level) for _, level in rows], "label": [k for k, _ in rows]},
            features=features,
        )
        if with_splits:
            one = datasets.DatasetDict({"train": one, "validation": one})
        one.save_to_disk(str(root))
        return str(root) if with_splits else f"{root},split=all"

    return build


def exif(root: Path, *, apply: bool = False) -> str:
    for name, level in LEVELS.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        image = picture(level, size=(8, 12))
        tags = Image.Exif()
        tags[0x0112] = 6
        for number in range(2):
            image.save(root / name / f"{number}.jpg", exif=tags)
    return f"{root},split=all{',exif=apply' if apply else ''}"


ENTRIES = "file_name,label"
LAYOUTS: dict[str, Callable[[Path], str]] = {
    "train and test": splits("train", "test"),
    "train and val": splits("train", "val"),
    "training and validation": splits("training", "validation"),
    "Train and Test": splits("Train", "Test"),
    "TRAIN and VALID": splits("TRAIN", "VALID"),
    "trainset and testset": splits("trainset", "testset"),
    "imagefolder by name": with_classes("imagefolder:{},split=all"),
    "class folders": with_classes("{},split=all"),
    "jpeg": with_classes("{},split=all", ending="jpg"),
    "webp": with_classes("{},split=all", ending="webp"),
    "bmp": with_classes("{},split=all", ending="bmp"),
    "tiff": with_classes("{},split=all", ending="tif"),
    "gray": with_classes("{},split=all", mode="L"),
    "gray made color": with_classes("{},split=all,color=rgb", mode="L"),
    "color made gray": with_classes("{},split=all,color=gray"),
    "resized": with_classes("{},split=all,resize=6,size=4,interpolation=bicubic", size=(9, 17)),
    "nested": nested,
    "stray files": with_stray,
    "bad files": with_bad,
    "csv": csv_table(ENTRIES),
    "csv of two columns": csv_table(""),
    "csv with semicolons": csv_table("file_name;label", ";"),
    "tsv": csv_table("image\tclass", "\t"),
    "json object": json_table(dict, "labels.json"),
    "json list": json_table(
        lambda rows: [{"filename": f, "category": c} for f, c in rows], "annotations.json"
    ),
    "json lines": json_table(
        lambda rows: [{"file_name": f, "label": c} for f, c in rows], "metadata.jsonl"
    ),
    "tar": tar(json_labels=False, train=False),
    "tar with json": tar(json_labels=True, train=False),
    "tars with splits": tar(json_labels=False, train=True),
    "saved by datasets": hub(with_splits=False),
    "saved by datasets with splits": hub(with_splits=True),
    "exif": exif,
    "exif applied": lambda root: exif(root, apply=True),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_give_their_classes_and_pixels(name: str, tmp_path: Path) -> None:
    check(LAYOUTS[name](tmp_path / "data"), counts=(2, 2))


def test_many_modes_and_endings_in_upper_case(tmp_path: Path) -> None:
    check(mixed(tmp_path / "mixed"), counts=(7, 7), tolerance=4)
    check(upper(tmp_path / "upper"), counts=(4, 4), tolerance=4)


def test_a_bad_file_is_named_and_refused_where_strict(tmp_path: Path) -> None:
    spec = with_bad(tmp_path)
    data = load_data(spec, strict=False)
    (note,) = (note for note in data.notes if "cannot be decoded" in note)
    assert note.startswith("2 images were left out that cannot be decoded: ")
    assert "ant/bad.png" in note and "bee/cut.png" in note and "--strict" in note
    assert data.rows is not None and len(data.rows) == 4
    with pytest.raises(InputError, match=r"bad\.png cannot be decoded|cut\.png cannot"):
        load_data(spec)


def test_orientation_is_counted_and_applied_where_asked_for(tmp_path: Path) -> None:
    data = load_data(exif(tmp_path), strict=False)
    assert data.image_shape == (3, 12, 8)
    assert any("4 images carry an EXIF orientation" in note for note in data.notes)
    turned = load_data(f"{tmp_path},split=all,exif=apply", strict=False)
    assert turned.image_shape == (3, 8, 12) and not turned.notes


def test_two_tables_are_asked_about(tmp_path: Path) -> None:
    rows = flat(tmp_path)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("\n".join(",".join(row) for row in rows))
    with pytest.raises(InputError, match=r"'a\.csv', 'b\.csv'.*labels=a\.csv"):
        load_data(f"{tmp_path},split=all")
    check(f"{tmp_path},split=all,labels=b.csv", counts=(2, 2))


def test_what_a_table_lacks_is_said(tmp_path: Path) -> None:
    rows = flat(tmp_path)
    lines = [",".join(row) for row in rows[1:]] + ["gone.png,ant"]
    (tmp_path / "labels.csv").write_text("file,label\n" + "\n".join(lines))
    data = load_data(f"{tmp_path},split=all")
    assert len(data) == 3
    assert "1 images have no label there and are left out" in data.notes
    assert "1 files that it names are not there" in data.notes


def test_a_file_with_two_labels_is_refused(tmp_path: Path) -> None:
    rows = flat(tmp_path)
    lines = [",".join(row) for row in rows] + [f"{rows[0][0]},bee"]
    (tmp_path / "labels.csv").write_text("file,label\n" + "\n".join(lines))
    with pytest.raises(InputError, match="labels 'ant' and 'bee'"):
        load_data(f"{tmp_path},split=all,labels=labels.csv")


def test_an_array_is_resized_as_a_picture_is(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (2, 9, 13, 3), dtype=np.uint8)
    (tmp_path / "pictures").mkdir()
    for number, one in enumerate(levels):
        Image.fromarray(one).save(tmp_path / "pictures" / f"{number}.png")
    np.savez(tmp_path / "x.npz", images=levels, labels=np.array([0, 1]))
    spec = "split=all,resize=6,size=5,interpolation=bicubic"
    array = load_data(f"{tmp_path / 'x.npz'},{spec}")
    pictures = load_data(f"{tmp_path / 'pictures'},{spec}")
    assert np.array_equal(np.asarray(array.images), np.asarray(pictures.images))
    small = load_data("digits,size=28,color=rgb", limit=5)
    assert small.image_shape == (3, 28, 28) and len(small) == 5


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{}/absent", "unknown data source"),
        ("{}/empty", "holds no images"),
        ("{}/notes.md", "no folder, and no file that ends in"),
        ("{}/data,size=4,resize=3", "crop"),
        ("{}/data,interpolation=cubic", "none of nearest"),
        ("{}/data,color=blue", "color=rgb, color=gray"),
        ("{}/data,labels=x.csv", "leave one out|no table"),
        ("{}/broken.tar", "no tar file"),
    ],
)
def test_refusals_are_one_line(spec: str, words: str, tmp_path: Path) -> None:
    classes(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "broken.tar").write_bytes(b"x" * 3000)
    with pytest.raises(InputError, match=words) as caught:
        load_data(spec.format(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["{}", "{},size=8", "imagefolder:{}"])
def test_nothing_is_written_into_a_folder_of_images(spec: str, tmp_path: Path) -> None:
    classes(tmp_path / "data")
    for out in (tmp_path / "data" / "run", tmp_path / "data" / "ant" / "run"):
        with pytest.raises(InputError, match="lies in the data folder"):
            refuse_inside_data(out, spec.format(tmp_path / "data"))
    refuse_inside_data(tmp_path / "run", spec.format(tmp_path / "data"))
    refuse_inside_data(Path("run"), "digits")
