"""Every row of the declarations has its file, and no file is without a row."""

import importlib
from pathlib import Path

import pytest

import robustcl
from robustcl import attacks, certify
from robustcl.core.lazy import declared
from robustcl.declarations.attacks import ATTACK_ROWS
from robustcl.declarations.claims import CLAIMS
from robustcl.declarations.heads import HEAD_ROWS
from robustcl.declarations.losses import LOSS_ROWS
from robustcl.declarations.robust import ROBUST_ROWS, encoder_of
from robustcl.training.losses.sums import LOSSES, parse_losses
from robustcl.training.robust import parse_robust
from robustcl.training.robust.method import RobustMethod

ROOT = Path(robustcl.__file__).parent
NO_METHOD = {  # private files that hold no method of the command line
    *("_attacked_radius", "_every_view", "_expectation", "_inner_ascent", "_screened"),
    *("_center_smoothing", "_displacement", "_retrieval", "_certified_radius"),
}


def test_every_claim_has_its_certificate() -> None:
    names = [row.name for row in CLAIMS]
    assert len(set(names)) == len(names) and list(certify.METHODS) == names
    for row in CLAIMS:
        method = certify.METHODS[row.name]
        told = {key: value for key, value in vars(row).items() if key != "prepare"}
        assert {key: getattr(method, key) for key in told} == told
        assert method.function.__name__ == (row.home.partition(":")[2] or row.name)
        assert (method.prepare is None) == (row.prepare == "")


def test_every_attack_has_its_row() -> None:
    assert list(attacks.ATTACKS) == list(ATTACK_ROWS)
    for name, row in ATTACK_ROWS.items():
        attack = attacks.ATTACKS[name]
        assert {key: getattr(attack, key) for key in vars(row)} == vars(row)
        assert attack.function.__name__ == name


@pytest.mark.parametrize(
    ("folder", "rows"),
    [
        ("attacks", set(ATTACK_ROWS)),
        ("certify", {row.name for row in CLAIMS}),
        ("training/losses", set(LOSS_ROWS)),
        ("models/heads", set(HEAD_ROWS)),
    ],
)
def test_no_file_is_without_a_row(folder: str, rows: set[str]) -> None:
    files = {place.stem for place in (ROOT / folder).glob("_[a-z]*.py")}
    assert files - NO_METHOD <= {f"_{name}" for name in rows}


def test_every_loss_works_with_its_defaults() -> None:
    assert list(LOSSES) == list(LOSS_ROWS)
    for name, row in LOSS_ROWS.items():
        assert LOSSES[name].__name__ == name
        for text in (name, row.alias or name):
            (term,) = parse_losses(text)
            assert term.name == name and term.temperature > 0


def test_every_robust_method_works_with_its_defaults() -> None:
    for name, row in ROBUST_ROWS.items():
        assert isinstance(parse_robust(name), RobustMethod)
        assert encoder_of(name) == encoder_of(f"{name}:x=1") == row.arch
    assert encoder_of("") == "small_convnet"


def test_every_head_is_a_function() -> None:
    for row in HEAD_ROWS.values():
        assert callable(declared(f"models.heads.{row.home}"))


def test_declarations_need_no_torch() -> None:
    for place in (ROOT / "declarations").glob("*.py"):
        module = importlib.import_module(f"robustcl.declarations.{place.stem}")
        assert "torch" not in vars(module)
