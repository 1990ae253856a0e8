"""--resume sets aside what is damaged, measures it again, and lists who measured what."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from robustcl.cli.main import certify
from robustcl.core.errors import RunError
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.measuring import evaluate
from robustcl.records import sessions as module
from robustcl.records.arrays import array_faults, load_arrays
from robustcl.records.examples import load_examples
from robustcl.records.json_file import write_sealed
from robustcl.records.lines import record_line
from robustcl.records.reading import config_hash, load_run, read_manifest
from robustcl.records.sessions import compare_sessions, image_ranges
from robustcl.records.summary import summarize
from robustcl.records.writing import start_run
from tests.cli.random_checkpoint import random_checkpoint
from tests.records.folder_of_a_run import (
    AUDIT,
    COUNT,
    edit,
    figures,
    go_on,
    line_number,
    lines_of,
    make_run,
    model_and_data,
    write_lines,
)

PGD, PRODUCT = "pgd:steps=5", "product"
OWN = {"seconds", "stage_seconds", "session", "crc", "forwards"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def plain(folder: Path) -> list[str]:
    lines = [
        json.loads(line)
        for place in folder.glob("records-*.jsonl")
        for line in place.read_bytes().splitlines()
    ]
    return sorted(str(sorted((k, v) for k, v in line.items() if k not in OWN)) for line in lines)


def test_damaged_lines_are_moved_and_their_images_measured_again(
    whole: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    edit(folder, "attack", PGD, lambda record: record.update(radius=None), sealed=False)
    edit(folder, "certificate", PRODUCT, lambda record: record.update(radius=-1.0), sealed=True)
    lines = lines_of(folder)
    lines[0] = lines[0][:30] + b"\n"
    write_lines(folder, lines)
    damaged = [lines[0], lines[line_number_of(lines, PRODUCT)], lines[line_number_of(lines, PGD)]]
    assert go_on(folder)
    said = capsys.readouterr().err
    assert "3 damaged lines of" in said and "records-0.jsonl" in said
    assert "first line 1 (it is not JSON" in said
    assert set((folder / "records-0.damaged").read_bytes().splitlines(True)) == set(damaged)
    assert figures(folder) == figures(whole)
    assert plain(folder) == plain(whole)


def test_the_command_writes_a_damaged_manifest_again(tmp_path: Path) -> None:
    # The command reads the manifest before the run is gone on with, to know how --limit draws.
    model, data = random_checkpoint(tmp_path)
    words = ["run", str(model), "--data", data, "--out", str(tmp_path / "run"), "--limit", "5"]
    words += ["--methods", "none", "--attack", "none", "--quiet"]
    assert certify(words) == 0
    before = plain(tmp_path / "run")
    place = tmp_path / "run" / "manifest.json"
    for damaged in ("", place.read_text().replace('"l2"', '"linf"')):
        place.write_text(damaged)
        assert certify(words) == 2
        assert certify([*words, "--resume"]) == 0
        assert read_manifest(tmp_path / "run")["complete"] and plain(tmp_path / "run") == before


def line_number_of(lines: list[bytes], method: str) -> int:
    found = (n for n, line in enumerate(lines) if f'"{method}"'.encode() in line[:200])
    return next(n for n in found if b'"index":3' in lines[n])


def test_lost_lines_are_measured_again_and_whole_ones_stay(whole: Path, folder: Path) -> None:
    lines = lines_of(folder)
    write_lines(folder, lines[: len(lines) // 2])
    with pytest.raises(RunError, match="lacks"):
        load_run(folder)
    assert go_on(folder)
    assert lines_of(folder)[: len(lines) // 2] == lines[: len(lines) // 2]
    assert figures(folder) == figures(whole)


def test_records_that_contradict_each_other_are_both_measured_again(
    whole: Path, folder: Path
) -> None:
    record = json.loads(lines_of(folder)[line_number(folder, "certificate", PRODUCT, 3)])
    del record["crc"]
    other = {**record, "radius": 5.0}
    (folder / "records-3.jsonl").write_bytes(record_line(other))
    assert go_on(folder)
    assert (folder / "records-3.damaged").read_bytes() == record_line(other)
    assert b'"index":3' in (folder / "records-0.damaged").read_bytes()
    assert figures(folder) == figures(whole)


def test_labels_are_compared_with_the_data(whole: Path, folder: Path) -> None:
    # The same wrong label in every record of an image: only the data can tell.
    lines = []
    for line in lines_of(folder):
        record = json.loads(line)
        del record["crc"]
        if record["index"] == 3:
            record["label"] = (record["label"] + 1) % 6
        lines.append(record_line(record))
    write_lines(folder, lines)
    assert figures(folder) != figures(whole)
    assert go_on(folder)
    assert figures(folder) == figures(whole)


def test_records_of_another_run_stay_refused(folder: Path) -> None:
    record = {**json.loads(lines_of(folder)[0]), "config": "0123456789abcdef"}
    del record["crc"]
    (folder / "records-1.jsonl").write_bytes(record_line(record))
    with pytest.raises(RunError, match=r"line 1 of .*records-1\.jsonl.*another run"):
        go_on(folder)
    assert (folder / "records-1.jsonl").read_bytes() == record_line(record)


def test_what_differs_from_a_run_is_what_differs_in_its_file(folder: Path) -> None:
    manifest = read_manifest(folder)
    config = {**manifest["config"], "eps": tuple(manifest["config"]["eps"]), "seed": 99}
    wanted = {**manifest, "config": config, "config_hash": config_hash(config)}
    with pytest.raises(RunError, match=r"holds another run \(its seed is 0, not 99\)"):
        start_run(folder, wanted, resume=True)


@pytest.mark.parametrize("damage", ["edited", "empty", "gone"])
def test_a_damaged_manifest_is_written_again(whole: Path, folder: Path, damage: str) -> None:
    place = folder / "manifest.json"
    text = place.read_text()
    if damage == "gone":
        place.unlink()
    else:
        place.write_text(text.replace('"l2"', '"linf"') if damage == "edited" else "")
    assert go_on(folder)
    assert figures(folder) == figures(whole)
    assert (folder / "manifest.damaged.json").exists() == (damage != "gone")
    assert load_run(folder).manifest["complete"]


def test_a_damaged_manifest_of_another_run_is_left_alone(folder: Path) -> None:
    place = folder / "manifest.json"
    place.write_text("{")
    other = EvaluationConfig(
        methods=("product",), attacks=("pgd:steps=6",), eps=(0.1, 1.0), batch_size=4
    )
    with pytest.raises(RunError, match="not known to be of this command: give a new --out"):
        go_on(folder, other)
    assert place.read_text() == "{"


SHARED = ("eps", "evaluations", "attack")


def arrays(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    names = ["embeddings", *sorted(p.stem for p in folder.glob("arrays/curves-*.npz"))]
    found = {name: load_arrays(folder, name, shared=SHARED) for name in names}
    return {**found, "triples": load_examples(folder)}


@pytest.mark.parametrize("kind", ["embeddings", "triples", "curves-", ""])
@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_damaged_arrays_are_computed_again(whole: Path, folder: Path, kind: str, how: str) -> None:
    before, records = arrays(whole), (folder / "records-0.jsonl").read_bytes()
    for place in folder.glob(f"arrays/{kind}*.npz"):
        if how == "gone":
            place.unlink()
            continue
        content = bytearray(place.read_bytes())
        content[len(content) // 2] ^= 4
        place.write_bytes(bytes(content))
    assert array_faults(folder)
    assert go_on(folder)
    assert not array_faults(folder)
    after = arrays(folder)
    assert after.keys() == before.keys()
    for name in before:
        assert after[name].keys() == before[name].keys()
        for key in before[name]:
            np.testing.assert_array_equal(after[name][key], before[name][key])
    assert (folder / "records-0.jsonl").read_bytes() == records
    assert figures(folder) == figures(whole)


def test_every_session_is_listed_with_what_it_made(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (first,) = read_manifest(folder)["sessions"]
    assert first["images"] == f"0-{COUNT - 1}" and first["device"].startswith("CPU")
    assert {"robustcl", "torch", "numpy"} <= first["versions"].keys()
    write_lines(folder, [line for line in lines_of(folder) if b'"index":6' not in line])
    go_on(folder)
    _, second = read_manifest(folder)["sessions"]
    assert second["images"] == "6"
    made = {json.loads(line)["session"] for line in lines_of(folder) if b'"index":6' in line}
    assert made == {1}
    go_on(folder)  # makes nothing
    assert len(read_manifest(folder)["sessions"]) == 2


def made_by(folder: Path, **versions: str) -> None:
    manifest = read_manifest(folder)
    sessions = [{**s, "versions": {**s["versions"], **versions}} for s in manifest["sessions"]]
    write_sealed(folder / "manifest.json", {**manifest, "sessions": sessions})


@pytest.mark.parametrize(("package", "version"), [("robustcl", "0.0.9"), ("torch", "1.13.1+cpu")])
def test_another_robustcl_or_torch_is_refused_unless_told_to(
    folder: Path, package: str, version: str
) -> None:
    made_by(folder, **{package: version})
    write_lines(folder, [line for line in lines_of(folder) if b'"index":6' not in line])
    before = lines_of(folder)
    with pytest.raises(RunError, match=rf"made by {package} .*, this is .*--mixed-versions"):
        go_on(folder)
    assert lines_of(folder) == before
    go_on(folder, mixed=True)
    run = load_run(folder)
    first, second = run.manifest["sessions"]
    assert first["versions"][package] == version != second["versions"][package]
    (note,) = run.notes
    assert package in note and version in note


def test_another_patch_machine_or_package_goes_on_and_is_said(folder: Path, capsys) -> None:
    made_by(folder, numpy="1.0.0")
    write_lines(folder, [line for line in lines_of(folder) if b'"index":6' not in line])
    go_on(folder)
    assert "earlier records are by numpy 1.0.0" in capsys.readouterr().err
    (note,) = load_run(folder).notes
    assert "numpy (1.0.0, " in note


def test_versions_are_compared_part_by_part() -> None:
    def now(torch: str) -> dict:
        return {"versions": {"robustcl": "0.2.0", "torch": torch}, "device": "CPU"}

    before = [now("2.13.1")]
    assert compare_sessions("run", before, now("2.13.1"), mixed=False) == []
    (line,) = compare_sessions("run", before, now("2.13.2+cu130"), mixed=False)
    assert "torch 2.13.1 (this is 2.13.2+cu130)" in line
    with pytest.raises(RunError, match=r"torch 2\.13\.1, this is 2\.1\.3"):
        compare_sessions("run", before, now("2.1.3"), mixed=False)
    assert compare_sessions("run", [*before, now("2.1.3")], now("2.1.4"), mixed=False)
    assert module.STRICT.keys() == {"robustcl", "torch"}


def test_ranges_are_spelled_with_both_ends() -> None:
    assert image_ranges([]) == ""
    assert image_ranges([5]) == "5"
    assert image_ranges([9, 0, 2, 1, 5, 5]) == "0-2,5,9"


def test_a_run_that_is_whole_stays_as_it_is(whole: Path, folder: Path) -> None:
    before = {p: p.read_bytes() for p in folder.rglob("*.*") if p.suffix in (".jsonl", ".npz")}
    go_on(folder)
    assert {p: p.read_bytes() for p in before} == before
    assert summarize(load_run(folder)).to_dict()["n"] == len(model_and_data()[1])
    assert AUDIT.attacks


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, count: int) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(count))


def by_two(folder: Path, monkeypatch: pytest.MonkeyPatch, *, resume: bool) -> None:
    model, dataset = model_and_data()
    for rank in (0, 1):
        as_rank(monkeypatch, rank, 2)
        evaluate(model, dataset, AUDIT, folder, resume=resume, progress=False)


def test_each_process_mends_its_own_file(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    by_two(folder, monkeypatch, resume=False)
    place, array = folder / "records-1.jsonl", folder / "arrays/embeddings.1.npz"
    lines = place.read_bytes().splitlines(keepends=True)
    place.write_bytes(b"".join([lines[0][:20] + b"\n", *lines[1:]]))
    array.write_bytes(b"PK")
    sound = (folder / "records-0.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"line 1 of .*records-1\.jsonl"):
        load_run(folder)
    as_rank(monkeypatch, 0, 2)
    assert not go_on(folder)
    with pytest.raises(RunError, match=r"line 1 of .*records-1\.jsonl"):
        load_run(folder)  # the file is the other's, which may be at work
    assert (folder / "records-0.jsonl").read_bytes() == sound
    by_two(folder, monkeypatch, resume=True)
    assert (folder / "records-1.damaged").read_bytes() == lines[0][:20] + b"\n"
    assert (folder / "records-0.jsonl").read_bytes() == sound
    assert figures(folder) == figures(whole) and plain(folder) == plain(whole)
    assert not array_faults(folder)
    for name, stored in arrays(whole).items():
        for key in stored:
            np.testing.assert_array_equal(arrays(folder)[name][key], stored[key])
    sessions = read_manifest(folder)["sessions"]
    assert [one["images"] for one in sessions[:2]] == ["0-3", "4-7"]
    assert sessions[1]["process"] == "1 of 2"


def test_one_process_mends_those_of_processes_that_are_no_more(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    by_two(folder, monkeypatch, resume=False)
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    place = folder / "records-1.jsonl"
    lines = place.read_bytes().splitlines(keepends=True)
    place.write_bytes(b"".join([lines[0][:20] + b"\n", *lines[1:-1], lines[-1][:-9]]))
    (folder / "arrays/triples.1.npz").write_bytes(b"PK")
    assert go_on(folder)
    assert (folder / "records-1.damaged").read_bytes() == lines[0][:20] + b"\n"
    assert figures(folder) == figures(whole) and plain(folder) == plain(whole)
    for key, value in load_examples(whole).items():
        np.testing.assert_array_equal(load_examples(folder)[key], value)
