"""The state of a cell is bound to its suite; what is damaged is named and run again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustcl.core.errors import RunError
from robustcl.records.json_file import CHECKSUM, sealed, write_sealed
from robustcl.records.reading import SCHEMA, config_hash, read_manifest
from robustcl.report.suite_folder import CellState, load_suite_run
from robustcl.studies.cell_kinds.state import load_cell, save_cell

ABOUT = {"model": "a", "data": "digits", "seed": 0}
STATE = CellState("a/model", "model", "done", about=ABOUT, metrics={"knn_accuracy": 0.5})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_suite(tmp_path / "suite", limit=8)


def make_suite(folder: Path, *, limit: int) -> Path:
    config = {"limit": limit}
    manifest = {"schema": SCHEMA, "suite": "tiny", "question": "?", "config": config}
    manifest |= {"config_hash": config_hash(config), "cells": ["a/model", "b/model"]}
    write_sealed(folder / "manifest.json", manifest)
    save_cell(folder, STATE)
    return folder


def content(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "a/model/cell.json").read_text())


def edited(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "a/model/cell.json").write_text(json.dumps({**content(folder), **values}))

    return change


def resealed(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        kept = {k: v for k, v in {**content(folder), **values}.items() if v is not ...}
        (folder / "a/model/cell.json").write_text(json.dumps(sealed(kept)))

    return change


def of_another_suite(folder: Path) -> None:
    other = make_suite(folder.parent / "other", limit=9)
    shutil.copy(other / "a/model/cell.json", folder / "a/model/cell.json")


def without_checksum(folder: Path) -> None:
    kept = {k: v for k, v in content(folder).items() if k != CHECKSUM}
    (folder / "a/model/cell.json").write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edited(metrics={"knn_accuracy": 0.9}), "changed after it was written"),
        (edited(status="failed"), "changed after it was written"),
        (edited(seconds=1e9), "changed after it was written"),
        (edited(rows=[{"n": 1}]), "changed after it was written"),
        (without_checksum, "lost its checksum"),
        (of_another_suite, "belongs to another suite"),
        (resealed(config_hash="x"), "belongs to another suite"),
        (resealed(cell="b/model"), "it is about 'b/model'"),
        (resealed(kind="toy"), "field kind: 'toy' is none of 'model'"),
        (resealed(status="well"), "field status: 'well' is none of 'done'"),
        (resealed(metrics=[]), "field metrics: expected table, got list"),
        (resealed(seconds="1"), "field seconds: expected float, got str"),
        (resealed(rows=...), "field rows is missing"),
        (resealed(color="red"), "field 'color' is not known"),
        (lambda f: (f / "a/model/cell.json").write_text("{"), "not JSON"),
        (lambda f: (f / "a/model/cell.json").write_bytes(b"\xff"), "no text in UTF-8"),
        (lambda f: (f / "a/model/cell.json").write_text("[]"), "no table"),
    ],
)
def test_a_damaged_cell_is_named_and_run_again(
    folder: Path, change: Callable[[Path], Any], words: str, capsys: pytest.CaptureFixture
) -> None:
    assert load_cell(folder, "a/model") == STATE
    change(folder)
    with pytest.raises(RunError, match=rf"cell\.json.*{words}.*--resume"):
        load_suite_run(folder)
    assert load_cell(folder, "a/model") is None
    told = capsys.readouterr().err
    assert "cell.json" in told and "the cell is run again" in told


def test_versions_and_device_stand_with_every_cell(folder: Path) -> None:
    found = content(folder)
    assert {"robustcl", "torch"} <= found["versions"].keys() and found["device"]
    assert found["config_hash"] == read_manifest(folder)["config_hash"]
    (cell,) = load_suite_run(folder).cells
    assert cell["metrics"] == STATE.metrics


def test_cells_of_an_older_suite_are_read_with_a_word(folder: Path) -> None:
    manifest = {**read_manifest(folder), "schema": 1, "versions": {"robustcl": "0.1.0"}}
    del manifest[CHECKSUM]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    kept = {k: v for k, v in content(folder).items() if k in CellState.__dataclass_fields__}
    (folder / "a/model/cell.json").write_text(json.dumps(kept))
    assert load_cell(folder, "a/model") == STATE
    (note,) = load_suite_run(folder).notes
    assert "robustcl 0.1.0" in note and "no checksums" in note
