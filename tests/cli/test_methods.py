"""The table of claims, as printed."""

import json

from robustcl import certify as room
from robustcl.cli.main import certify


def test_no_term_of_a_claim_is_cut_short(capsys) -> None:
    assert certify(["methods"]) == 0
    printed = capsys.readouterr().out
    for method in room.METHODS.values():
        lines = [line for line in printed.splitlines() if line.startswith(f"│ {method.name} ")]
        assert len(lines) == 1
        for term in (*method.norms, method.guarantee, method.subject):
            assert term in lines[0]


def test_the_table_as_json(capsys) -> None:
    assert certify(["methods", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [m["method"] for m in found["methods"]] == list(room.METHODS)
    assert {m["guarantee"] for m in found["methods"]} == {
        *("deterministic", "probabilistic", "estimate"),
    }
