"""Change single things in the folder of a finished run: each is named, or changes no figure."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustcl.cli.main import robustcl
from robustcl.core.errors import RunError
from robustcl.evaluation.config import EvaluationConfig
from robustcl.records.json_file import CHECKSUM, write_sealed
from robustcl.records.lines import record_line
from robustcl.records.reading import config_hash, load_run, read_manifest
from robustcl.records.summary import summarize
from robustcl.report.page import write_report
from tests.records.folder_of_a_run import (
    COUNT,
    edit,
    figures,
    line_number,
    lines_of,
    make_run,
    write_lines,
)

PGD, PRODUCT, SMOOTHING = "pgd:steps=5", "product", "smoothing:sigma=.25,n=20"
Change = Callable[[Path], Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def _set(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update(values)


def _drop(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda record: record.pop(name)


# By an editor: the checksum of the line is that of before.
EDITED = [
    ("clean", "clean", "label", 5),
    ("clean", "clean", "predicted", 5),
    ("clean", "clean", "index", 4),
    ("clean", "clean", "margin", 9.5),
    ("clean", "clean", "seconds", 5.0),
    ("clean", "clean", "forwards", 99),
    ("clean", "clean", "method", "dirty"),
    ("clean", "clean", "kind", "attack"),
    ("clean", "clean", "config", "0123456789abcdef"),
    ("clean", "clean", "session", 7),
    ("certificate", PRODUCT, "radius", 9.0),
    ("certificate", PRODUCT, "radius", None),
    ("certificate", PRODUCT, "rival", -1),
    ("certificate", PRODUCT, "predicted", -1),
    ("certificate", PRODUCT, "guarantee", "estimate"),
    ("certificate", SMOOTHING, "guarantee", "deterministic"),
    ("certificate", PRODUCT, "subject", "multi-view model"),
    ("certificate", PRODUCT, "norm", "linf"),
    ("certificate", PRODUCT, "method", SMOOTHING),
    ("attack", PGD, "radius", None),
    ("attack", PGD, "radius", 0.001),
    ("attack", PGD, "deployed", 0.001),
    ("attack", PGD, "in_float64", False),
    ("attack", PGD, "gradients", 1),
    ("attack", PGD, "failed", 0.5),
    ("attack", PGD, "eps", [0.1, 1.0, 5.0]),
    ("attack", PGD, "note", "nothing was left out"),
    ("attack", PGD, "method", "fmn:steps=5"),
    ("attack", PGD, "stages", {"search": 1}),
    ("attack", PGD, "stage_seconds", {"search": 9.0}),
    ("attack", "certified_ball", "ball", 0.0),
    ("attack", "certified_ball", "ball_by", "nobody"),
    ("attack", "certified_ball", "radius", 1e-6),
]


@pytest.mark.parametrize(("kind", "method", "name", "value"), EDITED)
def test_an_edited_field_is_named(folder: Path, kind: str, method: str, name: str, value) -> None:
    number = edit(folder, kind, method, _set(**{name: value}), sealed=False)
    with pytest.raises(
        RunError, match=rf"line {number} of .*records-0\.jsonl.*changed after it was written.*--res"
    ):
        load_run(folder)


# By a program that spells the checksum as well: what the run itself tells is still found.
SEALED = [
    ("clean", "clean", _set(config="0123456789abcdef"), "belongs to another run.*move that file"),
    ("clean", "clean", _set(index=COUNT), "its index is 8, and the run has 8 images"),
    ("clean", "clean", _set(index=-1), "its index is -1: expected int >= 0"),
    ("clean", "clean", _set(index=3.0), "its index is 3.0: expected int, got float"),
    ("clean", "clean", _set(index="3"), "its index is '3': expected int, got str"),
    ("clean", "clean", _set(index=True), "its index is True: expected int, got bool"),
    ("clean", "clean", _set(index=None), "its index is None: expected int, got null"),
    ("clean", "clean", _set(label=5), "its label is .*another record is"),
    ("clean", "clean", _set(label=6), "its label is 6"),
    ("clean", "clean", _set(predicted=6), "its predicted 6.* 6 classes"),
    ("clean", "clean", _set(predicted=-2), "its predicted is -2: expected int >= -1"),
    ("clean", "clean", _set(margin=None), "margin is null beside a prediction"),
    ("clean", "clean", _set(margin="NaN"), "its margin is 'NaN': expected float"),
    ("clean", "clean", _set(margin=-0.5), "its margin is -0.5: expected float >= 0"),
    ("clean", "clean", _set(seconds=None), "its seconds is None"),
    ("clean", "clean", _set(method="dirty"), "its method is 'dirty', not 'clean'"),
    ("clean", "clean", _set(kind="dirty"), "its kind is 'dirty', none of"),
    ("clean", "clean", _set(kind=["clean"]), "its kind is .*none of"),
    ("clean", "clean", _set(extra=1), "a field 'extra' that this version does not know"),
    ("clean", "clean", _drop("label"), "it has no 'label'"),
    ("clean", "clean", _drop("config"), "it has no 'config'"),
    ("certificate", PRODUCT, _set(method="crown"), "the run has no certificate 'crown'"),
    ("certificate", PRODUCT, _set(guarantee="sure"), "its guarantee is 'sure': 'sure' is none of"),
    ("certificate", PRODUCT, _set(radius=None), "radius is null"),
    ("certificate", PRODUCT, _set(radius=-1.0), "its radius is -1.0: expected float >= 0"),
    ("certificate", PRODUCT, _set(radius="0.5"), "its radius is '0.5': expected float"),
    ("certificate", PRODUCT, _set(rival=1.5), "its rival is 1.5: expected int, got float"),
    (
        "certificate",
        PRODUCT,
        _set(norm="l3"),
        "its norm is 'l3': 'l3' is none of 'l2', 'linf', 'l1'",
    ),
    ("certificate", PRODUCT, _drop("radius"), "it has no 'radius'"),
    ("attack", PGD, _set(method="certified_ball"), "another record of image 3 by certified_ball"),
    ("attack", PGD, _set(eps=[0.1]), r"its eps are \[0.1\], those of the run"),
    ("attack", PGD, _set(eps=["0.1"]), r"its eps is \['0.1'\]: expected float, got str"),
    ("attack", PGD, _set(eps=0.1), "its eps is 0.1: expected list, got float"),
    ("attack", PGD, _set(gradients=-1), "its gradients is -1"),
    ("attack", PGD, _set(gradients=1.5), "its gradients is 1.5: expected int, got float"),
    ("attack", PGD, _set(in_float64=1), "its in_float64 is 1: expected bool, got int"),
    ("attack", PGD, _set(stages={"search": "all"}), "its stages is .*expected float, got str"),
    ("attack", PGD, _set(deployed="inf"), "its deployed is 'inf'"),
    ("attack", PGD, _drop("subject"), "it has no 'subject'"),
]


@pytest.mark.parametrize(("kind", "method", "change", "words"), SEALED)
def test_what_the_run_tells_is_compared_with_every_record(
    folder: Path, kind: str, method: str, change, words: str
) -> None:
    edit(folder, kind, method, change, sealed=True)
    with pytest.raises(RunError, match=rf"line \d+ of .*records-0\.jsonl.*{words}"):
        load_run(folder)


def foreign(folder: Path) -> None:
    # Another model's predictions for the same images, as a second process would have left them.
    config = {**read_manifest(folder)["config"], "checkpoint_hash": "another"}
    lines = [json.loads(line) for line in lines_of(folder)]
    clean = [line for line in lines if line["kind"] == "clean"]
    for line in clean:
        del line["crc"]
        line |= {"predicted": (line["label"] + 1) % 6, "config": config_hash(config)}
    (folder / "records-1.jsonl").write_bytes(b"".join(map(record_line, clean)))


def test_records_of_another_run_are_refused_by_every_reader(folder: Path, capsys) -> None:
    before = figures(folder)
    foreign(folder)
    words = r"line 1 of .*records-1\.jsonl.*belongs to another run.*move that file out"
    for read in (load_run, write_report):
        with pytest.raises(RunError, match=words):
            read(folder)
    assert robustcl(["report", str(folder)]) == 2
    assert robustcl(["report", str(folder), str(folder.parent)]) == 2
    assert "records-1.jsonl" in capsys.readouterr().err
    (folder / "records-1.jsonl").unlink()
    assert figures(folder) == before


def cut_line(folder: Path) -> None:
    write_lines(folder, lines_of(folder)[:-1])


def cut_in_the_middle(folder: Path) -> None:
    lines = lines_of(folder)
    write_lines(folder, [*lines[:5], lines[5][:40] + b"\n", *lines[6:]])


def remove_line(folder: Path) -> None:
    lines = lines_of(folder)
    write_lines(folder, [*lines[:5], *lines[6:]])


def merge_lines(folder: Path) -> None:
    lines = lines_of(folder)
    write_lines(folder, [*lines[:5], lines[5][:-1], *lines[6:]])


def empty_line(folder: Path) -> None:
    lines = lines_of(folder)
    write_lines(folder, [*lines[:5], b"\n", *lines[5:]])


def cut_partly(folder: Path) -> None:
    place = folder / "records-0.jsonl"
    place.write_bytes(place.read_bytes()[:-20])


def no_checksum(folder: Path) -> None:
    lines = lines_of(folder)
    record = json.loads(lines[5])
    del record["crc"]
    lines[5] = json.dumps(record).encode() + b"\n"
    write_lines(folder, lines)


def contradiction(folder: Path) -> None:
    number = line_number(folder, "certificate", PRODUCT, 3)
    record = json.loads(lines_of(folder)[number])
    del record["crc"]
    record["radius"] *= 2
    (folder / "records-1.jsonl").write_bytes(record_line(record))


def no_records(folder: Path) -> None:
    (folder / "records-0.jsonl").unlink()


def a_folder_for_records(folder: Path) -> None:
    (folder / "records-1.jsonl").mkdir()


def edited_manifest(*keys: str, value: Any) -> Change:
    def change(folder: Path) -> None:
        place = folder / "manifest.json"
        content = json.loads(place.read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        place.write_text(json.dumps(content))

    return change


def sealed_config(folder: Path) -> None:
    manifest = read_manifest(folder)
    config = {**manifest["config"], "eps": [0.5, 1.0]}
    write_sealed(folder / "manifest.json", {**manifest, "config": config})


def manifest_without_checksum(folder: Path) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    del content[CHECKSUM]
    (folder / "manifest.json").write_text(json.dumps({**content, "seconds": 1e9}))


def other_manifest(folder: Path) -> None:
    make_run(folder.parent / "other", EvaluationConfig(methods=("product",), attacks=()))
    shutil.copy(folder.parent / "other" / "manifest.json", folder)


NAMED: list[tuple[Change, str]] = [
    (cut_line, r"lacks 1 records, first that of image 7 by fmn:steps=5.*--resume"),
    (cut_partly, r"lacks 1 records, first that of image 7 by fmn:steps=5.*--resume"),
    (cut_in_the_middle, r"line 6 of .*records-0\.jsonl.*not JSON.*--resume"),
    (merge_lines, r"line 6 of .*records-0\.jsonl.*not JSON.*--resume"),
    (empty_line, r"line 6 of .*records-0\.jsonl.*not JSON.*--resume"),
    (remove_line, r"lacks 1 records, first that of image"),
    (no_checksum, r"line 6 of .*records-0\.jsonl.*has no checksum.*--resume"),
    (contradiction, r"another record of image 3 by product contradicts it.*--resume"),
    (no_records, r"lacks 8 records, first that of image 0 by clean"),
    (a_folder_for_records, r"records-1\.jsonl' is a folder, no file"),
    (edited_manifest("config", "eps", value=[1.0]), r"manifest\.json.*changed after.*--resume"),
    (edited_manifest("config", "norm", value="linf"), r"manifest\.json.*changed after.*--resume"),
    (edited_manifest("config", "methods", value=[]), r"manifest\.json.*changed after.*--resume"),
    (edited_manifest("config_hash", value="x"), r"manifest\.json.*changed after.*--resume"),
    (edited_manifest("seconds", value=1e9), r"manifest\.json.*changed after.*--resume"),
    (edited_manifest("complete", value=False), r"manifest\.json.*changed after.*--resume"),
    (edited_manifest("num_examples", value=4), r"manifest\.json.*changed after.*--resume"),
    (edited_manifest("class_names", value=[]), r"manifest\.json.*changed after.*--resume"),
    (edited_manifest("claims", value=[]), r"manifest\.json.*changed after.*--resume"),
    (edited_manifest("flags", value=None), r"manifest\.json.*changed after.*--resume"),
    (edited_manifest("device", value="GPU"), r"manifest\.json.*changed after.*--resume"),
    (edited_manifest("schema", value=1), r"manifest\.json.*changed after.*--resume"),
    (edited_manifest("schema", value=3), r"manifest\.json.*changed after.*--resume"),
    (sealed_config, r"manifest\.json.*its config does not have the hash"),
    (manifest_without_checksum, r"manifest\.json.*lost its checksum"),
    (other_manifest, r"line 1 of .*records-0\.jsonl.*belongs to another run"),
    (
        lambda folder: (folder / "manifest.json").write_bytes(b"\xff{"),
        r"manifest\.json.*no text in UTF-8",
    ),
    (
        lambda folder: (folder / "manifest.json").write_text("[]"),
        r"manifest\.json.*list in JSON, no table",
    ),
    (lambda folder: (folder / "manifest.json").write_text(""), r"manifest\.json.*is empty"),
    (lambda folder: (folder / "manifest.json").unlink(), r"holds no run"),
]


@pytest.mark.parametrize(("change", "words"), NAMED)
def test_a_change_of_lines_and_manifest_is_named(folder: Path, change: Change, words: str) -> None:
    change(folder)
    with pytest.raises(RunError, match=words):
        load_run(folder)


def copied_line(folder: Path) -> None:
    lines = lines_of(folder)
    write_lines(folder, [*lines, lines[0]])


def measured_twice(folder: Path) -> None:
    record = json.loads(lines_of(folder)[0])
    del record["crc"]
    record["seconds"] *= 3
    (folder / "records-1.jsonl").write_bytes(record_line(record))


def other_order(folder: Path) -> None:
    write_lines(folder, lines_of(folder)[::-1])


def other_newlines(folder: Path) -> None:
    write_lines(folder, [line[:-1] + b"\r\n" for line in lines_of(folder)])


def no_last_newline(folder: Path) -> None:
    place = folder / "records-0.jsonl"
    place.write_bytes(place.read_bytes()[:-1])


def split_by_process(folder: Path) -> None:
    lines = lines_of(folder)
    write_lines(folder, lines[::2])
    (folder / "records-7.jsonl").write_bytes(b"".join(lines[1::2]))


@pytest.mark.parametrize(
    "change",
    [copied_line, measured_twice, other_order, other_newlines, no_last_newline, split_by_process],
)
def test_what_says_the_same_changes_no_figure(folder: Path, change: Change) -> None:
    before = figures(folder)
    change(folder)
    assert figures(folder) == before


def figures_or_refusal(folder: Path) -> dict[str, Any] | str:
    try:
        return summarize(load_run(folder)).to_dict()
    except RunError as error:
        return str(error)


def test_a_flipped_bit_of_records_or_manifest_never_changes_a_figure(folder: Path) -> None:
    before, draws = summarize(load_run(folder)).to_dict(), np.random.default_rng(0)
    noticed = 0
    for name in ("records-0.jsonl", "manifest.json"):
        place = folder / name
        content = place.read_bytes()
        for position in draws.choice(len(content), 150, replace=False).tolist():
            changed = bytearray(content)
            changed[position] ^= 1 << int(draws.integers(8))
            place.write_bytes(bytes(changed))
            found = figures_or_refusal(folder)
            noticed += isinstance(found, str)
            assert found == before or str(folder) in found
        place.write_bytes(content)
    assert noticed > 250


def test_a_pipe_among_the_records_is_refused_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "records-9.jsonl")
    with pytest.raises(RunError, match=r"records-9\.jsonl' is a named pipe, no file; move it"):
        load_run(folder)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(folder: Path) -> None:
    place = folder / "records-9.jsonl"
    place.touch()
    os.truncate(place, 2**33)  # a hole: it takes no room on the disk
    with pytest.raises(RunError, match=r"line 1 of .*records-9\.jsonl' has more than 64,000,000"):
        load_run(folder)
