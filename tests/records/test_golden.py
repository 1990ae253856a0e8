"""Runs, studies and reproducers of robustcl 0.1.0 load, and what they lack is said."""

import json
import re
import shutil
from pathlib import Path

import pytest

from robustcl.cli.main import robustcl
from robustcl.core.errors import RunError
from robustcl.data import load_data
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.manifest import Origin
from robustcl.evaluation.measuring import evaluate
from robustcl.evaluation.reproducer import load_reproducer, replay
from robustcl.models.checkpoint import load_checkpoint
from robustcl.records.arrays import array_faults, load_arrays
from robustcl.records.examples import load_examples
from robustcl.records.reading import config_hash, load_run, read_manifest
from robustcl.records.study_file import read_study
from robustcl.records.summary import summarize

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "runs"
WORD = "wrote no checksums"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))


def test_an_old_run_gives_the_figures_that_it_gave(folder: Path, capsys) -> None:
    run = load_run(folder / "run")
    told, before = summarize(run).to_dict(), json.loads((folder / "figures.json").read_text())
    for name, value in before.items():
        if name == "by_method":
            for method, entry in value.items():  # later versions say more
                now = {key: told[name][method][key] for key in entry}
                assert {**now, "curve": None} == {**entry, "curve": None}
        elif name == "by_attack":
            for method, entry in value.items():
                assert {key: told[name][method][key] for key in entry} == entry
        elif name != "flags":
            assert told[name] == value, name
    assert len(load_arrays(folder / "run", "embeddings")["index"]) == 6
    assert len(load_examples(folder / "run")["index"]) == 5
    assert array_faults(folder / "run") == []
    (note,) = run.notes
    assert WORD in note and "robustcl 0.1.0" in note
    assert robustcl(["report", str(folder / "run")]) == 0
    assert WORD in capsys.readouterr().err
    assert WORD in (folder / "run" / "report.html").read_text(encoding="utf-8")


def leave_out(run: Path, method: str) -> None:
    """Make of an old run what it were, had a certificate not been asked for."""
    place, lines = run / "manifest.json", run / "records-0.jsonl"
    manifest = json.loads(place.read_text())
    config = manifest["config"]
    config["methods"] = [name for name in config["methods"] if not name.startswith(method)]
    manifest["claims"] = [c for c in manifest["claims"] if not c["name"].startswith(method)]
    manifest["config_hash"] = config_hash(config)
    place.write_text(json.dumps(manifest))
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    kept = [
        r | {"config": config_hash(config)} for r in records if not r["method"].startswith(method)
    ]
    text = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in kept)
    lines.write_text(text)


def test_an_old_run_goes_on_and_stays_readable(folder: Path) -> None:
    place, run = folder / "run" / "records-0.jsonl", folder / "run"
    leave_out(run, "smoothing")  # whose form was left out, and is another by default now
    lines = place.read_bytes().splitlines(keepends=True)
    before = summarize(load_run(run)).to_dict()
    place.write_bytes(b"".join(line for line in lines if b'"index":5' not in line))
    manifest = read_manifest(run)
    config = manifest["config"]
    model = load_checkpoint(folder / "model.safetensors").classifier
    assert model is not None
    data = load_data("digits", split="test", limit=6, draw="first")
    assert data.hash() == config["data_hash"]
    audit = EvaluationConfig(
        methods=tuple(config["methods"]), attacks=tuple(config["attacks"]),
        eps=tuple(config["eps"]), batch_size=config["batch_size"],
    )  # fmt: skip
    origin = Origin(config["checkpoint_hash"], "")
    assert evaluate(model, data, audit, run, origin=origin, resume=True, mixed=True, progress=False)
    old, new = read_manifest(run)["sessions"]
    assert old["images"] == "0-4" and new["images"] == "5"
    assert old["versions"]["robustcl"] == "0.1.0"
    after = summarize(load_run(run)).to_dict()
    assert after["clean_accuracy"] == before["clean_accuracy"] and after["n"] == 6
    assert any(WORD in note for note in load_run(run).notes)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"config":"', b'"config":"f'),
        (b'"label":1', b'"label":5'),
        (b'"index":5', b'"index":6'),
        (b'"radius":', b'"radius":-'),
        (b'"guarantee":"det', b'"guarantee":"sure'),
        (b'"kind":"clean"', b'"kind":"dirty"'),
        (b'"method":"product"', b'"method":"crown"'),
        (b'"eps":[0.1', b'"eps":[0.2'),
        (b'"margin":', b'"score":'),
        (b"\n", b"\n{}\n"),
    ],
)
def test_what_an_old_run_tells_is_compared_all_the_same(
    folder: Path, before: bytes, after: bytes
) -> None:
    place = folder / "run" / "records-0.jsonl"
    place.write_bytes(place.read_bytes().replace(before, after, 1))
    with pytest.raises(RunError, match=r"line \d+ of .*records-0\.jsonl"):
        load_run(folder / "run")


def test_an_edited_configuration_of_an_old_run_is_found(folder: Path) -> None:
    place = folder / "run" / "manifest.json"
    place.write_text(place.read_text().replace("   0.25,", "   0.3,"))
    with pytest.raises(RunError, match=r"manifest\.json.*its config does not have the hash"):
        load_run(folder / "run")


def test_an_old_study_is_read_with_a_word(folder: Path) -> None:
    study, manifest, notes = read_study(folder / "study")
    assert study["models"]["single view"]["clean"]["accuracy"] == pytest.approx(11 / 12)
    assert manifest["config"]["num_examples"] == 12
    assert len(notes) == 1 and WORD in notes[0] and "0.1.0" in notes[0]
    assert robustcl(["report", str(folder / "study")]) == 0
    page = (folder / "study" / "report.html").read_text(encoding="utf-8")
    assert WORD in page and "91.7 % to 83.3 %" in page


def test_an_old_reproducer_is_replayed_with_a_word(folder: Path, capsys) -> None:
    found = load_reproducer(folder / "violation.safetensors")
    assert not found.sealed
    model = load_checkpoint(folder / "model.safetensors").classifier
    assert model is not None
    outcome = replay(found, model)
    assert outcome.confirmed and (outcome.predicted, outcome.rival) == (1, 8)
    words = [str(folder / "violation.safetensors"), "--checkpoint"]
    assert robustcl(["reproduce", *words, str(folder / "model.safetensors")]) == 1
    told = capsys.readouterr()
    assert "without a checksum" in told.err and "the violation is confirmed" in told.out


def test_no_machine_is_named_in_the_golden_files() -> None:
    for place in GOLDEN.rglob("*"):
        if place.suffix in (".json", ".jsonl", ".md"):  # no path from the root
            assert not re.search(r"""(^|[\s"'=:])/[a-z]+/""", place.read_text(encoding="utf-8"))
    assert sum(p.stat().st_size for p in GOLDEN.rglob("*") if p.is_file()) < 100_000
