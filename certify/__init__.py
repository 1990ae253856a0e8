"""Certificates: one file per method, each with one line in the table of claims."""

from certify import bounds
from certify.certified_radius import certified_radius
from certify.claim import Claim
from certify.crown import crown
from certify.first_order import first_order
from certify.gradients import output_gradients, pairwise_gradient_norms
from certify.jacobian_norm import jacobian_norm
from certify.local import local
from certify.methods import METHODS, Method, certificate, parse_method, prepare
from certify.problem import traced
from certify.product import product
from certify.smoothing import smoothing

__all__ = [
    "METHODS",
    "Claim",
    "Method",
    "bounds",
    "certificate",
    "certified_radius",
    "crown",
    "first_order",
    "jacobian_norm",
    "local",
    "output_gradients",
    "pairwise_gradient_norms",
    "parse_method",
    "prepare",
    "product",
    "smoothing",
    "traced",
]
