"""The page of a suite: what failed is said, peers that differ get no speed, runs are linked."""

import csv
import json
import re
from pathlib import Path
from typing import Any

from robustcl.cli.main import robustcl
from robustcl.records.reading import config_hash
from robustcl.report import write_suite_page
from tests.report.synthetic_run import four_images, write_run


def cell(kind: str, place: str, **entries: Any) -> dict[str, Any]:
    about = {"model": place.split("/")[0], "data": "digits", "seed": 0}
    about |= {"norm": "l2"} if kind == "audit" else {}
    empty = {"reason": "", "seconds": 1.0, "metrics": {}, "left_out": {}, "rows": []}
    return {"cell": place, "kind": kind, "status": "done", "about": about, **empty, **entries}


def peer(task: str, ratio: float | None, *, agree: bool) -> dict[str, Any]:
    low, high = (None, None) if ratio is None else (0.9 * ratio, 1.1 * ratio)
    return {
        "peer": "p", "task": task, "package": "other 1.0", "agree": agree, "agreement": "numbers",
        "ratio": ratio, "low": low, "high": high, "seconds": ratio and 1.0,
        "their_seconds": ratio, "clock": "processor", "repeats": 3, "load": [1.0, 2.0],
    }  # fmt: skip


def write_suite(folder: Path) -> Path:
    write_run(folder / "a/l2", four_images())
    (folder / "a/l2/report.html").write_text("")
    common = {"n": 4, "nll": 1.0, "brier": 0.3, "calibration_error": 0.1, "temperature": 0.4}
    kinds = (("none", 0, 0.75), ("contrast", 1, 0.5), ("contrast", 5, 0.25))
    tables = [
        {**common, "corruption": name, "severity": severity, "accuracy": accuracy}
        | {"interval95": [0.1, 0.9]}
        for name, severity, accuracy in kinds
    ]
    rows = [peer("radius, l2", 2.5, agree=True), peer("speed, linf", None, agree=False)]
    cells = [
        cell("audit", "a/l2", metrics={"clean_accuracy": 0.75}, left_out={"crown": "too deep"}),
        cell("calibration", "a/calibration", rows=tables, metrics={"nll": 1.0}),
        cell("model", "b/model", status="failed", reason="InputError: no labels"),
        cell("audit", "b/l2", status="failed", reason="its model failed: b/model"),
        cell("peer", "peers/p", rows=rows),
        cell("peer", "peers/q", status="skipped", reason="no q; pip install q"),
    ]
    for one in cells:
        place = folder / one["cell"] / "cell.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(one))
    manifest = {
        "schema": 1, "suite": "made", "question": "What?", "config": {},
        "config_hash": config_hash({}),
        "cells": [*(one["cell"] for one in cells), "late/model"], "complete": False,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_the_page_says_what_ended_how(tmp_path: Path) -> None:
    page, beaten = write_suite_page(write_suite(tmp_path / "suite"))
    text = page.read_text(encoding="utf-8")
    assert not beaten and "What?" in text
    assert "InputError: no labels" in text and "1 cells need a model that failed" in text
    assert "pip install q" in text and "left out crown: too deep" in text
    assert "1 cells have not ended" in text
    assert 'href="a/l2/report.html"' in text


def test_peers_that_differ_get_no_speed(tmp_path: Path) -> None:
    write_suite_page(write_suite(tmp_path / "suite"))
    text = (tmp_path / "suite/report.html").read_text(encoding="utf-8")
    assert '2.50<span class="soft">[2.25, 2.75]</span>' in text and "DIFFER: numbers" in text
    heads = re.findall(r'<th(?: class="(num)")?>([^<]+)</th>', text)
    assert ("", "correctness") in heads and ("num", "their time over ours") in heads
    with (tmp_path / "suite/tables/peers.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["task"]: row for row in csv.DictReader(stream)}
    assert rows["radius, l2"]["ratio"] == "2.5" and rows["speed, linf"]["ratio"] == ""
    assert (tmp_path / "suite/tables/peers.md").is_file()


def test_report_of_a_suite_rebuilds_its_page(tmp_path: Path) -> None:
    folder = write_suite(tmp_path / "suite")
    assert robustcl(["report", str(folder)]) == 0
    assert (folder / "report.html").is_file()
    assert (folder / "figures/corruptions.png").is_file()
    assert len(list((folder / "robustbench").glob("a-*.json"))) == 1
