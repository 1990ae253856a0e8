"""Attacks: one file per method; `run` verifies every one of them."""

from attacks.apgd import apgd
from attacks.attacked_radius import attacked_radius
from attacks.autoattack import autoattack, reference_cost
from attacks.boundary_walk import boundary_walk
from attacks.checks import Flag, model_flags
from attacks.confirmed import confirmed
from attacks.ddn import ddn
from attacks.deepfool import deepfool
from attacks.embedding_shift import embedding_shift
from attacks.every_view import every_view
from attacks.expectation import expectation
from attacks.finding import Finding, Search
from attacks.fmn import fmn
from attacks.inner_ascent import inner_ascent
from attacks.measure import measure
from attacks.methods import ATTACKS, Attack, parse_attack
from attacks.noise import noise
from attacks.pgd import pgd
from attacks.run import run
from attacks.screened import Screening, screened
from attacks.surface import surface
from attacks.torchattacks import torchattacks

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
