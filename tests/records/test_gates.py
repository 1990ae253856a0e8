"""Gates are judged from the records as by the run itself: 3 when missed, 1 for a violation."""

from pathlib import Path

import pytest

from robustcl.cli.main import robustcl
from robustcl.report import page
from tests.report.synthetic_run import attack, certificate, clean, write_run

# Two of four images are right and certified to 0.3; one of them is beaten at 0.4.
FINE = [
    *(clean(0, 0, 0), certificate(0, 0, 0, 0.3), attack(0, 0, 0, 0.4)),
    *(clean(1, 1, 1), certificate(1, 1, 1, 0.3), attack(1, 1, 1, None)),
    *(clean(2, 0, 1), certificate(2, 0, 1, 0.3), attack(2, 0, 1, 0.4)),
    *(clean(3, 0, 1), certificate(3, 0, 1, 0.3), attack(3, 0, 1, 0.4)),
]
BEATEN = [clean(0, 0, 0), certificate(0, 0, 0, 0.3), attack(0, 0, 0, 0.1)]


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the page out, whose drawing takes seconds."""
    monkeypatch.setattr(page, "write_run_page", lambda run, summary: run.folder / "report.html")


def code_of(folder: Path, *gates: str) -> int:
    return robustcl(["report", str(folder), *(("--require", *gates) if gates else ())])


def test_gates_from_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", FINE)
    assert code_of(run) == 0
    assert code_of(run, "clean_accuracy>=0.5", "certified_accuracy@0.25>=0.5") == 0
    assert code_of(run, "clean_accuracy>=0.5", "certified_accuracy@0.25>=0.51") == 3
    assert "missed: certified_accuracy@0.25>=0.51, it is 0.5000" in capsys.readouterr().out
    partly = write_run(tmp_path / "partly", FINE, complete=False)
    assert code_of(partly) == 0 and code_of(partly, "clean_accuracy>=0.1") == 3
    assert "not complete" in capsys.readouterr().out
    beaten = write_run(tmp_path / "beaten", BEATEN)
    assert code_of(beaten) == code_of(beaten, "clean_accuracy>=2") == 1


@pytest.mark.parametrize(
    "gate", ["accuracy>=1", "clean_accuracy>=much", "certified_accuracy@1/0>=1"]
)
def test_gates_that_cannot_be_read(
    gate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(write_run(tmp_path / "run", FINE), gate) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


def test_gates_are_for_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", FINE)
    (tmp_path / "log.csv").write_text("step\n1\n")
    for words in ([str(run), str(run)], [str(tmp_path / "log.csv")]):
        assert robustcl(["report", *words, "--require", "clean_accuracy>=0.5"]) == 2
        assert "--require" in capsys.readouterr().err
