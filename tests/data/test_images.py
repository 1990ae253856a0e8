"""Images of others: what is refused before anything is decoded, and what is not."""

import ast
import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import robustcl
from robustcl.core.errors import InputError
from robustcl.data.images import FORMATS, decode, jpeg_tensor, opened_image
from robustcl.data.transform import MOST_PIXELS, check_size
from tests.fuzz.build_data import bad_images, encoded, jpeg, odd_entries, png, tiff_of_a_tile

ROOT = Path(robustcl.__file__).parents[1]


def test_bad_images_are_refused_in_one_line() -> None:
    for kind, content in bad_images().items():
        for size in (None, 16):
            with pytest.raises(InputError) as caught:
                decode([content], names=["a picture"], size=size)
            text = str(caught.value)
            assert text.startswith("a picture ") and "\n" not in text, (kind, text)


def test_an_image_that_is_not_the_first_is_checked_too() -> None:
    slow = {"jpeg of many segments", "jpeg filled up"}  # for Pillow, which does not read these
    for kind, content in bad_images().items():
        if kind not in slow:
            with pytest.raises(InputError, match="the second"):
                decode([encoded("JPEG"), content], names=["the first", "the second"])


def test_every_format_that_is_named_is_decoded() -> None:
    for form in FORMATS:
        content = encoded(form, lossless=True) if form == "WEBP" else encoded(form)
        found = decode([content], names=[form])
        assert found.shape == (1, 8, 8, 3), form
        assert np.abs(found[0, 0, 0].astype(int) - (200, 100, 0)).max() <= 2, form


def test_no_other_format_is_opened_and_no_program_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    Image.init()
    for form in ("EPS", "ICNS", "JPEG2000", "PCX", "TGA", "ICO", "SPIDER", "SGI"):
        with pytest.raises(InputError, match="no image of a known format"):
            decode([encoded(form)], names=["x"], size=8)


def test_modes_are_decoded_as_before() -> None:
    for mode, channels in (("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGBA", 3)):
        file = io.BytesIO()
        Image.new(mode, (4, 4)).save(file, "PNG")
        assert decode([file.getvalue()], names=[mode]).shape == (1, 4, 4, channels)
    for form, mode in (("PNG", "I;16"), ("TIFF", "F"), ("TIFF", "I")):
        file = io.BytesIO()
        Image.new(mode, (4, 4)).save(file, form)
        with pytest.raises(InputError, match="8 bits per channel"):
            decode([file.getvalue()], names=[mode])


def test_the_largest_image_is_decoded_and_one_row_more_is_refused() -> None:
    with opened_image(png(8192, MOST_PIXELS // 8192), "x") as image:
        assert image.size == (8192, 8192)
    with pytest.raises(InputError, match="8192x8193 pixels, more than the 67,108,864"):
        decode([png(8192, MOST_PIXELS // 8192 + 1)], names=["x"])
    with pytest.raises(InputError, match=r"x has 8192x8193 pixels"):
        jpeg_tensor(jpeg(8192, 8193), "x")


def test_a_tile_is_no_larger_than_an_image_may_be() -> None:
    with pytest.raises(InputError, match="40000x40000 pixels in every tile"):
        decode([tiff_of_a_tile()], names=["x"])
    assert decode([tiff_of_a_tile(64)], names=["x"]).shape == (1, 8, 8, 1)


def test_resizing_is_refused_before_it_is_done() -> None:
    narrow = encoded(size=(1, 60_000))
    with pytest.raises(InputError, match=r"512x30720000 pixels when resized to size=512"):
        decode([narrow], names=["narrow"], size=512)
    assert decode([narrow], names=["narrow"], size=1).shape == (1, 1, 1, 3)
    check_size(8192)
    for size in (0, -1, 8193, 10**9):
        with pytest.raises(InputError, match="from 1 to 8192"):
            check_size(size)


def test_all_images_are_refused_before_their_array_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustcl.core.memory.available_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"10 images of 8x8 pixels would take .* GiB"):
        decode([encoded()] * 10, names=["x"] * 10)
    assert len(decode([encoded()] * 2, names=["x"] * 2)) == 2  # 768 bytes


def test_another_size_is_refused_by_its_header() -> None:
    other = png(9, 9, data=b"not to be decoded")
    with pytest.raises(InputError, match="b has 9x9 pixels but a has 8x8"):
        decode([encoded(), other], names=["a", "b"])


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    for kind, make in odd_entries().items():
        place = tmp_path / kind
        make(place)
        with pytest.raises(InputError, match=kind.split()[-1] if "pipe" in kind else "remove"):
            decode([place], names=["x"])
    with pytest.raises(InputError, match="is a folder"):
        decode([tmp_path], names=["x"])


def test_only_one_module_opens_images() -> None:
    found = set()
    for folder in ("robustcl", "attacks", "certify"):
        for place in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(place.read_text(encoding="utf-8"))):
                if _opens(node):
                    found.add(place.relative_to(ROOT).as_posix())
    assert found == {"robustcl/data/images.py"}


def _opens(node: ast.AST) -> bool:
    decoders = {"decode_jpeg", "decode_image", "decode_png", "read_image", "default_loader"}
    if isinstance(node, ast.ImportFrom):
        names = {alias.name for alias in node.names}
        return bool(names & decoders) or (node.module == "PIL.Image" and "open" in names)
    if not isinstance(node, ast.Attribute):
        return False
    is_image = isinstance(node.value, ast.Name) and node.value.id in ("Image", "PIL", "pil_image")
    return (is_image and node.attr == "open") or node.attr in decoders
