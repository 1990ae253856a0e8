"""Comparing runs: every run is named, rates are theirs, and the page stands alone."""

import csv
import json
import re
from pathlib import Path

import pytest

from robustcl.cli.main import robustcl
from robustcl.core.errors import InputError, RunError
from robustcl.records import load_run
from robustcl.records.study_file import is_comparison, is_study
from robustcl.report import write_comparison
from tests.report.synthetic_run import attack, certificate, four_images, write_run


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    # A second model, wrong on one image more.
    wrong = [{**one, "label": 1} if one["index"] == 0 else one for one in four_images()]
    return [write_run(tmp_path / "first", four_images()), write_run(tmp_path / "second", wrong)]


def rows(place: Path) -> list[dict[str, str]]:
    with place.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_both_runs_are_named_with_their_rates(two: list[Path], tmp_path: Path) -> None:
    page, beaten = write_comparison(two, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert "first" in text and "second" in text and not beaten
    found = {row["run"]: row for row in rows(tmp_path / "out/tables/runs.csv")}
    assert float(found["first"]["clean_accuracy"]) == 0.75
    assert float(found["second"]["clean_accuracy"]) == 0.5
    assert found["first"]["radius"] == "0.1"
    assert float(found["first"]["certified_accuracy"]) == 0.5  # images 1 and 2
    assert float(found["first"]["attacked_accuracy"]) == 0.75
    for name in ("runs", "certificates", "attacks", "curves"):
        for kind in ("csv", "md", "tex"):
            assert (tmp_path / "out/tables" / f"{name}.{kind}").stat().st_size
    assert list((tmp_path / "out/figures").glob("sandwiches-*.png"))


def test_the_page_loads_nothing_from_elsewhere(two: list[Path], tmp_path: Path) -> None:
    page = write_comparison(two, tmp_path / "out")[0].read_text(encoding="utf-8")
    sources = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"https?:|@import|url\(|<script|<link", page)
    assert str(tmp_path) not in page


def test_robustbench_entries(two: list[Path], tmp_path: Path) -> None:
    write_comparison(two, tmp_path / "out")
    files = sorted((tmp_path / "out/robustbench").glob("*.json"))
    assert len(files) == 2
    entry = json.loads(files[0].read_text())
    assert (entry["name"], entry["eps"], entry["threat_model"]) == ("first", "0.1", "L2")
    assert (entry["clean_acc"], entry["certified_acc"]) == ("75.00", "50.00")
    assert entry["attacked_acc"] == "75.00"
    assert entry["autoattack_acc"] is None  # PGD is not AutoAttack


def test_autoattack_counts_alone_under_its_name(tmp_path: Path) -> None:
    records = [*four_images(), attack(0, 0, 0, 0.05, method="autoattack")]
    others = ((1, 1, 1), (2, 0, 0), (3, 1, 0))
    records += [attack(*other, None, method="autoattack") for other in others]
    run = write_run(tmp_path / "run", records, norm="l2")
    other = write_run(tmp_path / "other", four_images())
    write_comparison([run, other], tmp_path / "out")
    (place,) = (tmp_path / "out/robustbench").glob("run-*.json")
    entry = json.loads(place.read_text())
    assert (entry["autoattack_acc"], entry["attacked_acc"]) == ("50.00", "50.00")


def test_a_violation_in_one_run_is_said_and_fails(tmp_path: Path, capsys) -> None:
    beaten = [*four_images(), certificate(1, 1, 1, 0.9, method="local")]
    places = [write_run(tmp_path / "good", four_images()), write_run(tmp_path / "bad", beaten)]
    out = tmp_path / "out"
    assert robustcl(["report", *map(str, places), "--out", str(out)]) == 1
    assert "bad (L2, seed 7): 1 of" in capsys.readouterr().err
    assert "VIOLATION" in (out / "report.html").read_text(encoding="utf-8")


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    places = [write_run(tmp_path / name / "run", four_images()) for name in ("a", "b")]
    write_comparison(places, tmp_path / "out")
    assert [row["run"] for row in rows(tmp_path / "out/tables/runs.csv")] == ["a/run", "b/run"]


def test_a_folder_given_twice_is_refused(two: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="twice"):
        write_comparison([two[0], two[0]], tmp_path / "out")
    with pytest.raises(InputError, match="--out"):
        write_comparison(two, two[1])
    assert robustcl(["report", str(two[0]), "--out", str(tmp_path / "out")]) == 2


def test_a_comparison_is_made_again_and_keeps_what_is_not_its_own(
    two: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    page, _ = write_comparison(two, out)
    first = page.read_bytes()
    (out / "figures/photo.png").write_bytes(b"mine")
    assert write_comparison(two, out)[0].read_bytes() == first
    assert (out / "figures/photo.png").read_bytes() == b"mine"
    assert is_comparison(out) and not is_study(out)
    with pytest.raises(RunError, match="is a comparison, no run"):
        load_run(out)
