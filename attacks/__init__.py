"""Attacks: one file per method; `run_attack` verifies every one of them."""

from robustcl.attacks._apgd import apgd
from robustcl.attacks._attacked_radius import attacked_radius
from robustcl.attacks._autoattack import autoattack, reference_cost
from robustcl.attacks._boundary_walk import boundary_walk
from robustcl.attacks._ddn import ddn
from robustcl.attacks._deepfool import deepfool
from robustcl.attacks._embedding_shift import embedding_shift
from robustcl.attacks._every_view import every_view
from robustcl.attacks._expectation import expectation
from robustcl.attacks._fmn import fmn
from robustcl.attacks._inner_ascent import inner_ascent
from robustcl.attacks._noise import noise
from robustcl.attacks._pgd import pgd
from robustcl.attacks._screened import Screening, screened
from robustcl.attacks._surface import surface
from robustcl.attacks._torchattacks import torchattacks
from robustcl.attacks.checks import Flag, model_flags
from robustcl.attacks.confirmation import confirmed
from robustcl.attacks.measuring import measure
from robustcl.attacks.methods import ATTACKS, Attack, parse_attack
from robustcl.attacks.results import AttackResult, Candidates
from robustcl.attacks.running import run_attack

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackResult",
    "Candidates",
    "Flag",
    "Screening",
    "apgd",
    "attacked_radius",
    "autoattack",
    "boundary_walk",
    "confirmed",
    "ddn",
    "deepfool",
    "embedding_shift",
    "every_view",
    "expectation",
    "fmn",
    "inner_ascent",
    "measure",
    "model_flags",
    "noise",
    "parse_attack",
    "pgd",
    "reference_cost",
    "run_attack",
    "screened",
    "surface",
    "torchattacks",
]
