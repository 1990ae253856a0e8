"""Parquet files of others: columns, pages, paths and metadata that are not as they should be."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robustcl.core.errors import InputError
from robustcl.data import load_data
from robustcl.data.parquet_pages import Chunk, read_footer, read_pages
from tests.fuzz.build_data import (
    bad_images,
    bad_npz,
    bad_parquet,
    cell,
    encoded,
    hub,
    npz_bomb,
    page_header,
    write_parquet,
)

pytest.importorskip("pyarrow")


def test_bad_files_are_refused_in_one_line(tmp_path: Path) -> None:
    for number, (kind, write) in enumerate(bad_parquet().items()):
        place = write(tmp_path / f"{number}.parquet")
        with pytest.raises(InputError) as caught:
            load_data(f"parquet:{place},split=all")
        text = str(caught.value)
        assert "\n" not in text and (place.stem in text or "folder" in text), (kind, text)


def test_names_that_are_not_stated_are_none(tmp_path: Path) -> None:
    for metadata in (
        None,
        b"{}",
        hub({"names": None}),
        hub({"dtype": "int64"}),
        hub({"names": []}),
    ):
        place = write_parquet(tmp_path / "x.parquet", [cell(encoded())], [0], metadata=metadata)
        assert load_data(f"parquet:{place},split=all").class_names == ()
    place = write_parquet(place, [cell(encoded())], [0], metadata=hub({"names": ["a", "b"]}))
    assert load_data(f"parquet:{place},split=all").class_names == ("a", "b")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"data_page_version": "2.0"},
        {"compression": "zstd", "row_group_size": 2},
        {"use_dictionary": False, "column_encoding": {"img.bytes": "DELTA_LENGTH_BYTE_ARRAY"}},
    ],
)
def test_every_encoding_gives_the_same_images(tmp_path: Path, options: dict) -> None:
    cells = [cell(encoded(form)) for form in ("PNG", "BMP", "PNG", "TIFF", "PPM")]
    labels = ["bee", "ant", "bee", "bee", "ant"]
    place = write_parquet(tmp_path / "x.parquet", cells, labels, **options)
    data = load_data(f"parquet:{place},split=all")
    assert data.labels.tolist() == [1, 0, 1, 1, 0] and data.class_names == ("ant", "bee")
    assert (np.asarray(data.images) == (200, 100, 0)).all() and len(data) == 5


def test_large_groups_are_read_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustcl.data.parquet_file._SHARED", 0)
    cells = [cell(encoded(size=(8, 8))) for _ in range(40)]
    place = write_parquet(tmp_path / "x.parquet", cells, [0] * 40, use_dictionary=False)
    assert len(load_data(f"parquet:{place},split=all")) == 40
    place = write_parquet(place, [cell(bytes(10**5))] * 40, [0] * 40)
    with pytest.raises(InputError, match="repeats images so often"):
        load_data(f"parquet:{place},split=all")


def test_what_unpacks_to_far_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustcl.data.parquet_file._LARGE", 10**5)
    place = write_parquet(
        tmp_path / "x.parquet", [cell(bytes(10**6))], [0], compression="zstd", use_dictionary=False
    )
    with pytest.raises(InputError, match=r"row group 0 of .* unpacks .* to 1,0"):
        load_data(f"parquet:{place},split=all")


def test_more_rows_than_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustcl.data.parquet_file._MANY", 100)
    place = write_parquet(tmp_path / "x.parquet", [cell(encoded())] * 50_000, [0] * 50_000)
    with pytest.raises(InputError, match="50,000 rows in"):
        load_data(f"parquet:{place},split=all")


def test_pages_are_counted_by_their_own_headers(tmp_path: Path) -> None:
    def pages(*parts: bytes) -> bytes:
        return b"".join(parts)

    content = pages(page_header(2**31 - 1, 3), b"abc", page_header(70, 2, encoding=7), b"de")
    found = read_pages(io.BytesIO(content), Chunk(0, len(content)))
    assert found.unpacked == 2**31 + 69 and found.encodings == {0, 7}
    for bad in (content[:-1], content[:5], b"\xff" * 40, b"\0" * 4, page_header(5, 2**20)):
        with pytest.raises(ValueError, match=r"page|value|number"):
            read_pages(io.BytesIO(bad), Chunk(0, len(bad)))
    place = write_parquet(tmp_path / "x.parquet", [cell(encoded())] * 3, [0] * 3, row_group_size=2)
    with place.open("rb") as stream:
        groups = read_footer(stream)
    assert [group.rows for group in groups] == [2, 1]
    assert set(groups[0].chunks) == {"img.bytes", "img.path", "label"}


def test_paths_stay_in_the_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "data", tmp_path / "outside"
    for folder in (inside / "deep", outside):
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(encoded())
    (inside / "link.png").symlink_to(outside / "a.png")
    (inside / "here.png").symlink_to(inside / "deep" / "a.png")
    os.mkfifo(inside / "pipe.png")
    place = inside / "x.parquet"
    for path in ("deep/a.png", "here.png"):
        write_parquet(place, [cell(path=path)], [0])
        assert len(load_data(f"parquet:{place},split=all")) == 1
    escapes = ("../outside/a.png", str(outside / "a.png"), "link.png", "deep/../../outside/a.png")
    for path in escapes:
        write_parquet(place, [cell(path=path)], [0])
        with pytest.raises(InputError, match="outside its folder"):
            load_data(f"parquet:{place},split=all")
    write_parquet(place, [cell(path="pipe.png")], [0])
    with pytest.raises(InputError, match="named pipe"):
        load_data(f"parquet:{place},split=all")


def test_what_is_refused_takes_less_than_a_gigabyte(tmp_path: Path) -> None:
    # One process, which loads the package and then refuses every bad file; what the package takes
    # itself is not counted.
    for number, content in enumerate(bad_images().values()):
        (tmp_path / f"{number}.png").write_bytes(content)
    for number, content in enumerate([*bad_npz().values(), npz_bomb()]):
        (tmp_path / f"{number}.npz").write_bytes(content)
    for number, write in enumerate(bad_parquet().values()):
        write(tmp_path / f"{number}.parquet")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    assert told["refused"] == len(list(tmp_path.iterdir())) and told["bytes"] < 10**9


CHILD = """
import json, resource, sys
from pathlib import Path
from robustcl.data import load_data
from robustcl.data.images import decode
from robustcl.core.errors import InputError

refused = 0
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for place in Path(sys.argv[1]).iterdir():
    try:
        if place.suffix == ".png":
            decode([place], names=["x"])
        else:
            load_data(f"{place.suffix[1:]}:{place},split=all")
    except InputError:
        refused += 1
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"refused": refused, "bytes": 1024 * (peak - own)}))
"""
