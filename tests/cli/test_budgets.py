"""--eps of every command: what was meant in 255ths, and what is no budget, is refused in a line."""

from pathlib import Path

import pytest

from robustcl.cli.main import certify, robustcl
from robustcl.core.budgets import check_budgets, read_budget, read_budgets
from robustcl.core.errors import InputError
from robustcl.evaluation.config import EvaluationConfig
from tests.cli.random_checkpoint import random_checkpoint

WIDE = "eps 8 in linf is wider than the whole pixel range [0, 1]; did you mean 8/255?"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("budgets")
    random_checkpoint(folder)
    return folder


def said(command: str, place: Path, out: Path, capsys, *more: str) -> str:
    """Run a command that must be refused; return its only line."""
    words = [command, str(place / "model.safetensors"), "--data", f"npz:{place / 'data.npz'}"]
    main = certify if command == "run" else robustcl
    assert main([*words, "--out", str(out), *more]) == 2
    assert not out.exists()
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "Traceback" not in line
    return line.strip()


COMMANDS = {
    "run": (),
    "attack": (),
    "multiview": ("--limit", "8", "--held-out", "4"),
    "probe": ("--protocol", "alf"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("eps", ["8", "8.0", "2040/255"])
def test_a_linf_budget_in_255ths_is_refused(place, tmp_path, capsys, command, eps) -> None:
    more = ("--norm", "linf", "--eps", eps, *COMMANDS[command])
    assert said(command, place, tmp_path / "out", capsys, *more) == f"error: {WIDE}"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "eps, words",
    [
        ("", "''"),
        (" ", "' '"),
        (",", "','"),
        ("0.1,,0.2", "'0.1,,0.2'"),
        ("eight", "'eight' is not a number"),
        ("8/0", "'8/0' is not a number"),
        ("0.1;0.2", "'0.1;0.2' is not a number"),
        ("true", "'true' is not a number"),
        ("=-1", "eps -1 is not positive"),
        ("0", "eps 0 is not positive"),
        ("nan", "eps nan is not positive"),
        ("inf", "eps inf is not positive and finite"),
        ("9" * 400, "is too large"),
        ("0.2,0.1", "eps 0.2,0.1 is not ascending"),
    ],
)
def test_what_is_no_budget_is_refused(place, tmp_path, capsys, command, eps, words) -> None:
    option = [f"--eps{eps}"] if eps.startswith("=") else ["--eps", eps]
    line = said(command, place, tmp_path / "out", capsys, *option, *COMMANDS[command])
    assert words in line
    assert "write 0." in line


@pytest.mark.parametrize("command", ["attack", "multiview", "probe"])
def test_several_budgets_where_one_is_taken_are_refused(place, tmp_path, capsys, command) -> None:
    line = said(command, place, tmp_path / "out", capsys, "--eps", "0.1,0.2", *COMMANDS[command])
    assert "'0.1,0.2' is 2 budgets; one is taken" in line


def test_they_are_refused_before_anything_is_loaded(tmp_path, capsys) -> None:
    for command, more in COMMANDS.items():
        line = said(command, tmp_path, tmp_path / "out", capsys, "--eps", "0", *more)
        assert "eps 0 is not positive" in line  # and not: no checkpoint


SUITE = """
question = "?"
data = ["digits"]
seeds = [0]
norms = ["l2", "linf"]
attacks = ["pgd"]
metrics = ["attacked_accuracy"]
[models.a]
[eps]
"""


@pytest.mark.parametrize(
    "entry, words",
    [
        ("linf = [8]", WIDE),
        ("linf = ['8/255', 8]", WIDE),
        ("l2 = []", "write 0.25"),
        ("l2 = [-0.5]", "eps -0.5 is not positive"),
        ("l2 = ['wide']", "'wide' is not a number"),
        ("l2 = [0.5, 0.1]", "eps 0.5,0.1 is not ascending"),
    ],
)
def test_bench_refuses_them_before_anything_runs(tmp_path, capsys, entry, words) -> None:
    (tmp_path / "suite.toml").write_text(SUITE + entry)
    out = tmp_path / "out"
    assert robustcl(["bench", str(tmp_path / "suite.toml"), "--out", str(out)]) == 2
    line = capsys.readouterr().err
    assert words in line
    assert line.count("\n") == 1
    assert not out.exists()


def test_training_refuses_them_too(tmp_path, capsys) -> None:
    words = ["train", "--data", "digits", "--robust", "acl:eps=8", "--epochs", "1"]
    assert robustcl([*words, "--out", str(tmp_path / "m.safetensors")]) == 2
    assert WIDE in capsys.readouterr().err


def test_a_library_call_refuses_them_too() -> None:
    with pytest.raises(InputError, match="did you mean 8/255"):
        EvaluationConfig(norm="linf", eps=(4.0 / 255, 8.0))
    with pytest.raises(InputError, match="use 8/255"):
        EvaluationConfig(norm="linf", eps=(300.0,))
    with pytest.raises(InputError, match="names no budget"):
        EvaluationConfig(eps=())


def test_what_is_a_budget_is_taken() -> None:
    assert read_budgets("4/255, 8/255", "linf") == (4 / 255, 8 / 255)
    assert read_budget("1", "linf") == 1.0  # the whole range may be asked for
    assert read_budget("8", "l2") == 8.0
    assert check_budgets((12.0, 24.0), "l1") == (12.0, 24.0)
