"""Records come back as they were written, and damage is told from a line that was cut."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from robustcl.core.errors import RunError
from robustcl.records.json_file import write_sealed
from robustcl.records.reading import SCHEMA, config_hash, read_lines
from robustcl.records.writing import append_records

CONFIG = {"attacks": ["pgd"], "methods": [], "eps": [4 / 255, 8 / 255], "num_examples": 9}
RECORD = {
    "kind": "attack",
    "index": 3,
    "method": "pgd",
    "config": config_hash(CONFIG),
    "label": 0,
    "predicted": 1,
    "seconds": 0.5,
    "norm": "linf",
    "subject": "model",
    "gradients": 40,
    "radius": 0.1 + 0.2,
    "eps": [4 / 255, 8 / 255],
    "stages": {"pgd": 40},
    "note": "Tramèr",
    "in_float64": True,
    "decided": None,
}


@pytest.fixture(autouse=True)
def manifest(tmp_path: Path) -> None:
    content = {"schema": SCHEMA, "config": CONFIG, "config_hash": config_hash(CONFIG)}
    write_sealed(tmp_path / "manifest.json", content)


SMALL = [5e-324, 1.0000000000000002, 0.014117647058823528, 1e22, 0.0]


def test_records_come_back_bit_for_bit(tmp_path: Path) -> None:
    written = [{**RECORD, "radius": value, "index": k} for k, value in enumerate(SMALL)]
    append_records(tmp_path, written[:2])
    append_records(tmp_path, written[2:])
    found = list(read_lines(tmp_path))
    assert found == written
    assert [math.copysign(1.0, one["radius"]) for one in found] == [1.0] * 5


def test_other_programs_read_the_lines_as_json(tmp_path: Path) -> None:
    append_records(tmp_path, [RECORD, RECORD])
    lines = (tmp_path / "records-0.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    assert all(len(record.pop("crc")) == 8 for record in found)
    assert found == [RECORD, RECORD]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, np.float64(math.inf)])
def test_numbers_that_are_not_finite_are_null(tmp_path: Path, value: float) -> None:
    append_records(tmp_path, [{**RECORD, "radius": value}])
    assert next(read_lines(tmp_path))["radius"] is None


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    append_records(tmp_path, [{**RECORD, "index": np.int64(3), "radius": np.float64(1 / 3)}])
    assert next(read_lines(tmp_path)) == {**RECORD, "radius": 1 / 3}


@pytest.mark.parametrize("cut", [1, 2, 40, 100])
def test_a_last_line_that_was_cut_is_left_out(tmp_path: Path, cut: int) -> None:
    append_records(tmp_path, [RECORD, {**RECORD, "index": 4}])
    place = tmp_path / "records-0.jsonl"
    place.write_bytes(place.read_bytes()[: -1 - cut])
    assert [record["index"] for record in read_lines(tmp_path)] == [3]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    append_records(tmp_path, [RECORD, RECORD, RECORD])
    place = tmp_path / "records-0.jsonl"
    lines = place.read_bytes().splitlines(keepends=True)
    place.write_bytes(lines[0] + b"\xff\x00" + lines[1] + lines[2])
    reader = read_lines(tmp_path)
    assert next(reader) == RECORD
    with pytest.raises(
        RunError, match=r"line 2 of .*records-0\.jsonl.* is damaged: it is not JSON .*--resume"
    ):
        next(reader)
