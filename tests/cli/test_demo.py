"""The demo: one command from data to a report, opened in a browser without a network."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from robustcl.cli.main import certify, robustcl
from robustcl.records.lines import record_line


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "run"
    started = time.monotonic()
    assert certify(["demo", "--out", str(folder), "--quiet"]) == 0
    (folder.parent / "seconds").write_text(str(time.monotonic() - started))
    return folder


def test_demo_keeps_its_promises(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert robustcl(["report", str(demo), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["clean_accuracy"] >= 0.97
    assert found["violations"] == []
    assert found["median_certified_radius"] >= 0.05
    assert found["median_attacked_radius"] > found["median_certified_radius"]
    for key in ("certified_accuracy", "attacked_accuracy"):
        values = [value for _, value in found[key]]
        assert values == sorted(values, reverse=True)
    assert found["seconds"] > 0
    assert len(list(demo.rglob("*.safetensors"))) == 1


def test_the_page_needs_no_network(demo: Path) -> None:
    page = (demo / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)


def test_the_page_opens_in_chromium(demo: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed; apt-get install chromium runs this test")
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,3000"),
            *(f"--screenshot={tmp_path / 'page.png'}", "--dump-dom"),
            (demo / "report.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    # 450 images and two certificates; a point is found, and confirmed in float64, for each.
    assert "No violation in 900 pairs" in done.stdout


def test_a_run_goes_on_where_it_was_cut(demo: Path, tmp_path: Path) -> None:
    arguments = ["run", str(demo / "encoder.safetensors"), "--data", "digits", "--limit", "70"]
    arguments += [
        "--methods",
        "product,smoothing:n=100",
        "--attack",
        "pgd:steps=8",
        "--eps",
        "1/4,1/2",
    ]
    arguments += ["--batch-size", "32", "--quiet", "--out"]
    assert certify([*arguments, str(tmp_path / "whole")]) == 0
    assert certify([*arguments, str(tmp_path / "cut")]) == 0
    place = tmp_path / "cut" / "records-0.jsonl"
    lines = place.read_text().splitlines(keepends=True)
    place.write_text("".join(lines[:150]) + lines[150][:20])
    assert certify([*arguments, str(tmp_path / "cut")]) == 2
    assert certify([*arguments, str(tmp_path / "cut"), "--resume"]) == 0

    def records(name: str) -> list[dict]:
        text = (tmp_path / name / "records-0.jsonl").read_text()
        found = [json.loads(line) for line in text.splitlines()]
        own = ("session", "crc")  # which session made a record, and the checksum of that
        return [
            {k: v for k, v in line.items() if "second" not in k and k not in own} for line in found
        ]

    def key(line: dict) -> tuple[str, str, int]:
        return line["kind"], line["method"], line["index"]

    assert sorted(records("cut"), key=key) == sorted(records("whole"), key=key)
    other = [*arguments, str(tmp_path / "cut"), "--resume", "--seed", "1"]
    assert certify(other) == 2


def test_a_planted_violation_fails_the_run(demo: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(demo, tmp_path / "run")
    place = tmp_path / "run" / "records-0.jsonl"
    lines = [json.loads(line) for line in place.read_text().splitlines()]
    attacked = {line["index"]: line["radius"] for line in lines if line["kind"] == "attack"}
    for line in lines:
        if line["method"] == "product" and line["index"] == 7:
            line["radius"] = 1.1 * attacked[7]
    for line in lines:
        del line["crc"]
    place.write_bytes(b"".join(record_line(line) for line in lines))
    assert robustcl(["report", str(tmp_path / "run")]) == 1
    assert "first image 7" in capsys.readouterr().err


def test_gates_decide_the_exit_code(demo: Path, tmp_path: Path) -> None:
    base = [
        "run",
        str(demo / "encoder.safetensors"),
        "--data",
        "digits",
        "--limit",
        "40",
        "--quiet",
    ]
    base += ["--attack", "none", "--methods", "product", "--require"]
    assert certify([*base, "certified_accuracy@0.01>=0.5", "--out", str(tmp_path / "a")]) == 0
    assert certify([*base, "certified_accuracy@1>=0.5", "--out", str(tmp_path / "b")]) == 3
    assert certify([*base, "certified", "--out", str(tmp_path / "c")]) == 2
