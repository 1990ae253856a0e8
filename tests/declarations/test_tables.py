"""The tables that are printed without torch are those that are computed with."""

from robustcl import attacks, certify
from robustcl.attacks.methods import ATTACK_FUNCTIONS as RUNS
from robustcl.certify.methods import CERTIFICATE_FUNCTIONS as COMPUTES
from robustcl.declarations.attacks import ATTACK_ROWS
from robustcl.declarations.claims import CLAIMS


def test_every_claim_has_its_certificate_and_none_is_left() -> None:
    names = [row.name for row in CLAIMS]
    assert len(set(names)) == len(names)
    assert sorted(COMPUTES) == sorted(names) and list(certify.METHODS) == names
    for row in CLAIMS:
        method = certify.METHODS[row.name]
        assert {name: getattr(method, name) for name in vars(row)} == vars(row)
        assert (method.function, method.prepare) == COMPUTES[row.name]
        own = "certified_radius" if row.name == "sound" else row.name
        assert method.function.__name__ == own


def test_every_attack_has_its_row_and_none_is_left() -> None:
    assert sorted(RUNS) == sorted(ATTACK_ROWS) and list(attacks.ATTACKS) == list(ATTACK_ROWS)
    for name, row in ATTACK_ROWS.items():
        attack = attacks.ATTACKS[name]
        assert {key: getattr(attack, key) for key in vars(row)} == vars(row)
        assert attack.function.__name__ == name
