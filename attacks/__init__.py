"""Attacks: one file per method; `run` verifies every one of them."""

from robustcl.attacks.apgd import apgd
from robustcl.attacks.attacked_radius import attacked_radius
from robustcl.attacks.autoattack import autoattack, reference_cost
from robustcl.attacks.boundary_walk import boundary_walk
from robustcl.attacks.checks import Flag, model_flags
from robustcl.attacks.confirmed import confirmed
from robustcl.attacks.ddn import ddn
from robustcl.attacks.deepfool import deepfool
from robustcl.attacks.embedding_shift import embedding_shift
from robustcl.attacks.every_view import every_view
from robustcl.attacks.expectation import expectation
from robustcl.attacks.finding import Finding, Search
from robustcl.attacks.fmn import fmn
from robustcl.attacks.inner_ascent import inner_ascent
from robustcl.attacks.measure import measure
from robustcl.attacks.methods import ATTACKS, Attack, parse_attack
from robustcl.attacks.noise import noise
from robustcl.attacks.pgd import pgd
from robustcl.attacks.run import run
from robustcl.attacks.screened import Screening, screened
from robustcl.attacks.surface import surface
from robustcl.attacks.torchattacks import torchattacks

__all__ = [
    "ATTACKS",
    "Attack",
    "Finding",
    "Flag",
    "Screening",
    "Search",
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
    "run",
    "screened",
    "surface",
    "torchattacks",
]
