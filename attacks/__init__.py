"""Attacks: one file per method; `run` verifies every one of them."""

from attacks.attacked_radius import attacked_radius
from attacks.autoattack import autoattack, reference_cost
from attacks.finding import Finding, Search
from attacks.methods import ATTACKS, Attack, parse_attack
from attacks.pgd import pgd
from attacks.run import measure, run
from attacks.screened import Screening, screened
from attacks.torchattacks import torchattacks

__all__ = [
    "ATTACKS",
    "Attack",
    "Finding",
    "Screening",
    "Search",
    "attacked_radius",
    "autoattack",
    "measure",
    "parse_attack",
    "pgd",
    "reference_cost",
    "run",
    "screened",
    "torchattacks",
]
