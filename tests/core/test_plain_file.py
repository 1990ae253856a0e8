"""JSON, TOML and headers of tensors are read within bounds, or refused in words."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from robustcl.core.files import MOST_JSON, parse_json, read_json, read_toml
from robustcl.core.tensor_header import read_header

JSON = [
    ("", "is empty"),
    ("  \n", "is empty"),
    ("{", "is not JSON"),
    ('{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' comes twice"),
    ("[" * 100_000, "nested too deeply"),
    ('{"a":' * 100_000, "nested too deeply"),
    ("9" * 5000, "4300 digits"),
    ("[" + "[]," * 1_000_001, "more than 1,000,000 tables and lists"),
]


@pytest.mark.parametrize(("text", "words"), JSON, ids=range(len(JSON)))
def test_json_that_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        parse_json(text)
    assert str(error.value).isprintable()


def test_files_that_are_no_text_files(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'{"a": "\xff"}')
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nothing")
    with (tmp_path / "holes").open("wb") as stream:
        stream.truncate(2**40)
    cases = {
        "latin": "no text in UTF-8 .*byte 7",
        "pipe": "is a named pipe",
        "link": "is a link that leads nowhere",
        "holes": "is longer than",
        "absent": "does not exist",
        ".": "is a folder",
    }
    for name, words in cases.items():
        for reader in (read_json, read_toml):
            with pytest.raises(ValueError, match=words):
                reader(tmp_path / name)
    assert MOST_JSON < 10**8


TOML = [
    ("a = ", "is not TOML"),
    ("a = 1\na = 2", "is not TOML"),
    ("a = " + "[" * 5000, "nested too deeply"),
    ("a." * 300 + "b = 1", "more than 200 dots"),
    ("a = " + "9" * 5000, "4300 digits"),
]


@pytest.mark.parametrize(("text", "words"), TOML, ids=range(len(TOML)))
def test_toml_that_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_toml(tmp_path / "a.toml")


def test_headers_of_tensors(tmp_path: Path) -> None:
    place = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(2, 3), "b": torch.tensor(1)}, place, metadata={"k": "v"})
    found = read_header(place)
    assert found.metadata == {"k": "v"} and found.shapes == {"a": (2, 3), "b": ()}
    content = place.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8:end]), content[end:]

    def refused(words: str, **entry: object) -> None:
        text = json.dumps({**header, "a": {**header["a"], **entry}}).encode()
        place.write_bytes(struct.pack("<Q", len(text)) + text + body)
        with pytest.raises(ValueError, match=words):
            read_header(place)

    refused("tensor 'a': field dtype: 'F4' is none of", dtype="F4")
    refused(r"tensor 'a': field shape\[0\]: expected int >= 0", shape=[-1])
    refused("its shape is .* and it has 24 bytes", shape=[5, 6])
    refused("its shape is .* and it has 24 bytes", shape=[2**30, 2**30])
    refused("its shape is absurd", shape=[2**39, 2**39, 0], data_offsets=[0, 0])
    refused("its bytes are from 0 to 1000 of", data_offsets=[0, 1000])
    for length in (2**63, len(content)):
        place.write_bytes(struct.pack("<Q", length) + content[8:])
        with pytest.raises(ValueError, match="longer than the file"):
            read_header(place)
    with place.open("wb") as stream:
        stream.truncate(2**43)
    with pytest.raises(ValueError, match="more than the memory of this machine"):
        read_header(place)


def test_dots_in_quotes_are_no_levels(tmp_path: Path) -> None:
    place = tmp_path / "a.toml"
    place.write_text("a = '" + "." * 300 + '\'\nb = "\\"' + "." * 300 + '"\n')
    assert read_toml(place) == {"a": "." * 300, "b": '"' + "." * 300}
    place.write_text('"\\"" .' + "a." * 300 + 'b = "\\""\n')
    with pytest.raises(ValueError, match="more than 200 dots"):
        read_toml(place)
