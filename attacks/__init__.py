"""Attacks: one file per method; `run` verifies every one of them."""

from attacks.attacked_radius import attacked_radius
from attacks.autoattack import autoattack
from attacks.finding import Finding, Search
from attacks.methods import ATTACKS, Attack, parse_attack
from attacks.pgd import pgd
from attacks.run import measure, run

__all__ = [
    "ATTACKS",
    "Attack",
    "Finding",
    "Search",
    "attacked_radius",
    "autoattack",
    "measure",
    "parse_attack",
    "pgd",
    "run",
]
