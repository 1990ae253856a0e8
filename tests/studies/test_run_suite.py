"""Running a suite: what is kept, what is resumed, and what a failed cell leaves alone."""

import errno
import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from robustcl.cli.main import robustcl
from robustcl.core.classifier import Classifier
from robustcl.core.errors import RunError
from robustcl.core.output_folder import OutputFolder
from robustcl.records.json_file import write_sealed
from robustcl.records.lines import SELF_TIMED
from robustcl.records.reading import read_lines, read_manifest
from robustcl.report.suite_folder import load_suite_run
from robustcl.report.suite_tables import metrics_table
from robustcl.studies import Place, Suite, cells, read_suite, run_suite
from robustcl.studies.cell_kinds.audit_cell import usable_attacks, usable_methods
from tests.cli.random_checkpoint import random_checkpoint

# The modules, which functions of the same name hide.
audit_cell = sys.modules["robustcl.studies.cell_kinds.audit_cell"]
runner = sys.modules["robustcl.studies.running"]
auditing = sys.modules["robustcl.evaluation.clean_records"]


@pytest.fixture(scope="module", autouse=True)
def no_reports() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:  # drawing takes most of the time
        patch.setattr(audit_cell, "write_report", lambda folder: folder)
        yield


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    checkpoint, data = random_checkpoint(tmp_path_factory.mktemp("given"), count=40)
    models = {"given": {"checkpoint": str(checkpoint)}, "lost": {"checkpoint": "no.safetensors"}}
    return read_suite(
        "tiny",
        {
            "question": "Does it turn?",
            "data": [data],
            "norms": ["l2", "linf"],
            "limit": 8,
            "batch_size": 4,
            "certificates": ["product"],
            "attacks": {"l2": ["pgd:steps=3"]},
            "eps": {"l2": [0.5], "linf": ["16/255"]},
            "metrics": ["clean_accuracy", "certified_accuracy", "attacked_accuracy", "nll"],
            "models": models,
        },
    )


@pytest.fixture(scope="module")
def whole(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Place(tmp_path_factory.mktemp("whole") / "out")
    run_suite(suite, place)
    return place.folder


def records(folder: Path, suite: Suite) -> list[dict[str, Any]]:
    own = {*SELF_TIMED} - {"forwards"}
    lines = [
        {"cell": cell.folder, **{k: v for k, v in line.items() if k not in own}}
        for cell in cells(suite)
        if cell.kind == "audit"
        for line in read_lines(folder / cell.folder)
    ]
    return sorted(lines, key=lambda line: json.dumps(line, sort_keys=True))


def measured(folder: Path) -> list[dict[str, Any]]:
    keep = ("cell", "status", "reason", "metrics", "left_out", "rows")
    return [{key: cell[key] for key in keep} for cell in load_suite_run(folder).cells]


def test_a_failed_cell_is_recorded_and_stops_no_other(whole: Path, suite: Suite) -> None:
    states = {cell["cell"]: cell for cell in load_suite_run(whole).cells}
    assert len(states) == len(cells(suite))
    for cell in cells(suite):
        state = states[cell.folder]
        assert state["status"] == ("done" if cell.model.name == "given" else "failed")
    lost = next(c for c in states.values() if c["about"]["model"] == "lost")
    assert "no.safetensors" in lost["reason"]


def test_a_certificate_that_does_not_apply_is_left_out() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    raw = Classifier.from_scores(network, image_shape=(1, 8, 8)).eval()  # on no sphere
    usable, left_out = usable_methods(raw, ("product", "geodesic"), "l2")
    assert usable == ("product",) and set(left_out) == {"geodesic"}
    assert left_out["geodesic"]


def test_attacks_of_an_absent_package_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    usable, left_out = usable_attacks(("pgd", "torchattacks:CW"))
    assert usable == ("pgd",) and "pip install" in left_out["torchattacks:CW"]


def test_killed_and_resumed_equals_one_go(
    whole: Path, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path / "out")
    append, count = auditing.append_records, 0

    def dying(folder: Path, rows: Any) -> None:
        nonlocal count
        append(folder, rows)
        count += 1
        if count % 3 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(auditing, "append_records", dying)
    interruptions = 0
    while True:
        try:
            run_suite(suite, place, resume=interruptions > 0)
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions > 1
    assert records(place.folder, suite) == records(whole, suite)
    assert measured(place.folder) == measured(whole)


def test_done_cells_are_not_repeated(
    whole: Path, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(runner, "_ended", lambda suite, cell, *_: seen.append(cell.folder) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_suite(suite, Place(whole), resume=True)
    assert seen == ["lost/npz/0/model"]  # a failed one is tried again


def test_a_full_disk_ends_the_suite_and_fails_no_cell(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runner, "RUNNERS", dict.fromkeys(runner.RUNNERS, full))
    with pytest.raises(OSError, match="No space left"):
        run_suite(suite, Place(tmp_path / "full"))
    assert not list(tmp_path.rglob("cell.json"))


def test_another_suite_in_the_folder_is_refused(whole: Path, suite: Suite) -> None:
    with pytest.raises(RunError, match="--resume"):
        run_suite(suite, Place(whole))
    with pytest.raises(RunError, match="limit is 8, not 5"):
        run_suite(replace(suite, limit=5), Place(whole), resume=True)


def test_the_manifest_has_the_resolved_suite(whole: Path, suite: Suite) -> None:
    manifest = load_suite_run(whole).manifest
    assert manifest["complete"] and manifest["suite"] == "tiny"
    assert manifest["config"] == json.loads(json.dumps(suite.to_dict()))
    assert manifest["config"]["eps"]["linf"] == [16 / 255]
    assert manifest["config"]["severities"] == [1, 3, 5]  # a default, stated


def test_metrics_come_from_the_runs(whole: Path, suite: Suite) -> None:
    rows = metrics_table(load_suite_run(whole)).to_dict("records")
    found = {(row["norm"], row["metric"]): row for row in rows}
    clean = found["l2", "clean_accuracy"]
    lines = [line for line in records(whole, suite) if line["kind"] == "clean"]
    right = [line["label"] == line["predicted"] for line in lines]
    assert clean["mean"] == found["linf", "clean_accuracy"]["mean"] == sum(right) / len(right)
    assert clean["seeds"] == 1
    lower, upper = (found["l2", f"{side}_accuracy"]["mean"] for side in ("certified", "attacked"))
    assert lower <= upper <= clean["mean"]


def test_training_goes_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "short.toml"
    file.write_text("""
question = "Does it train?"
data = ["digits"]
limit = 20
metrics = ["knn_accuracy", "nll", "corrupted_accuracy", "training_seconds"]
corruptions = ["contrast"]
severities = [5]
[models.short]
epochs = 2
measure_every = 1
head = "linear"
""")
    out = tmp_path / "out"
    assert robustcl(["bench", str(file), "--out", str(out), "--quiet", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["done"] == 2 and told["failed"] == 0
    (model, table) = load_suite_run(out).cells
    assert 0.5 < model["metrics"]["knn_accuracy"] <= 1.0
    assert {row["corruption"] for row in table["rows"]} == {"none", "contrast"}
    counts = {row["n"] for row in table["rows"]}
    assert len(counts) == 1 and 0 < counts.pop() < 20  # the others fitted the temperature
    assert (out / "report.html").is_file()
    # Killed after training, before the cell was closed: nothing is trained again.
    weights = (out / "short/digits/0/model/encoder.safetensors").stat().st_mtime_ns
    (out / "short/digits/0/model/cell.json").unlink()
    assert robustcl(["bench", str(file), "--out", str(out), "--quiet", "--resume"]) == 0
    assert (out / "short/digits/0/model/encoder.safetensors").stat().st_mtime_ns == weights


def test_damage_is_mended_and_versions_are_compared(
    suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    place = Place(tmp_path / "out")
    run_suite(suite, place)
    before = measured(place.folder)
    manifest = read_manifest(place.folder)
    own = manifest["sessions"][0]["versions"]
    (place.folder / "manifest.json").write_text("{")
    state = place.folder / "given/npz/0/l2/cell.json"
    state.write_text(state.read_text().replace("clean_accuracy", "clear_accuracy"))
    capsys.readouterr()
    run_suite(suite, place, resume=True)
    told = capsys.readouterr().err
    assert "manifest.json" in told and "it is written again" in told
    assert "cell.json" in told and "the cell is run again" in told
    assert measured(place.folder) == before
    sessions = [{"versions": {**own, "torch": "1.0.0"}}]
    write_sealed(place.folder / "manifest.json", {**manifest, "sessions": sessions})
    with pytest.raises(RunError, match=r"torch 1\.0\.0.*--mixed-versions"):
        run_suite(suite, place, resume=True)
    run_suite(suite, replace(place, mixed=True), resume=True)
    assert len(read_manifest(place.folder)["sessions"]) == 2
    assert any("1.0.0" in note for note in load_suite_run(place.folder).notes)


def test_a_damaged_manifest_of_another_suite_is_left_alone(suite: Suite, tmp_path: Path) -> None:
    place = Place(tmp_path / "out")
    place.folder.mkdir()
    (place.folder / "manifest.json").write_text("{")
    with pytest.raises(RunError, match=r"holds 'manifest\.json', which robustcl did not write"):
        run_suite(suite, place, resume=True)
    OutputFolder(place.folder).adopt("manifest.json")  # as if we had written it
    with pytest.raises(RunError, match="no cell in the folder is known to be of this suite"):
        run_suite(suite, place, resume=True)
    assert (place.folder / "manifest.json").read_text() == "{"
