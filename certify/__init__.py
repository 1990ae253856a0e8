"""Certificates: one file per method, each with one line in the table of claims."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m robustcl.certify` imports this first
    from robustcl.certify.__main__ import start_without_torch

    start_without_torch()

from robustcl.certify import bounds
from robustcl.certify.center_smoothing import Centers, Noise, center_smoothing, smoothed_centers
from robustcl.certify.certified_radius import certified_radius
from robustcl.certify.choose_clip import choose_clip
from robustcl.certify.claim import Claim
from robustcl.certify.clever import clever, weibull_endpoint
from robustcl.certify.crown import crown
from robustcl.certify.decide_radius import Decision, decide_radius
from robustcl.certify.displacement import Drift, displacement, smoothed_displacement
from robustcl.certify.first_order import first_order
from robustcl.certify.geodesic import geodesic
from robustcl.certify.gradients import output_gradients, pairwise_gradient_norms, pairwise_slopes
from robustcl.certify.jacobian_norm import jacobian_norm
from robustcl.certify.local import local
from robustcl.certify.methods import (
    METHODS,
    Method,
    certificate,
    changed_defaults,
    compare,
    parse_method,
    prepare,
)
from robustcl.certify.multi_view import multi_view, traced_views
from robustcl.certify.preparation import traced
from robustcl.certify.product import product
from robustcl.certify.retrieval import Retrieval, retrieval, smoothed_retrieval
from robustcl.certify.smoothing import smoothing

__all__ = [
    "METHODS",
    "Centers",
    "Claim",
    "Decision",
    "Drift",
    "Method",
    "Noise",
    "Retrieval",
    "bounds",
    "center_smoothing",
    "certificate",
    "certified_radius",
    "changed_defaults",
    "choose_clip",
    "clever",
    "compare",
    "crown",
    "decide_radius",
    "displacement",
    "first_order",
    "geodesic",
    "jacobian_norm",
    "local",
    "multi_view",
    "output_gradients",
    "pairwise_gradient_norms",
    "pairwise_slopes",
    "parse_method",
    "prepare",
    "product",
    "retrieval",
    "smoothed_centers",
    "smoothed_displacement",
    "smoothed_retrieval",
    "smoothing",
    "traced",
    "traced_views",
    "weibull_endpoint",
]
