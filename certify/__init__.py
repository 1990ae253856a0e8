"""Certificates: one file per method, each with one line in the table of claims."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m certify` imports the package before its __main__
    from certify.__main__ import start_without_torch

    start_without_torch()

from certify import bounds
from certify.center_smoothing import Centers, Noise, center_smoothing, smoothed_centers
from certify.certified_radius import certified_radius
from certify.choose_clip import choose_clip
from certify.claim import Claim
from certify.clever import clever, weibull_endpoint
from certify.crown import crown
from certify.decide_radius import Decision, decide_radius
from certify.displacement import Drift, displacement, smoothed_displacement
from certify.first_order import first_order
from certify.geodesic import geodesic
from certify.gradients import output_gradients, pairwise_gradient_norms, pairwise_slopes
from certify.jacobian_norm import jacobian_norm
from certify.local import local
from certify.methods import (
    METHODS,
    Method,
    certificate,
    changed_defaults,
    compare,
    parse_method,
    prepare,
)
from certify.multi_view import multi_view, traced_views
from certify.preparation import traced
from certify.product import product
from certify.retrieval import Retrieval, retrieval, smoothed_retrieval
from certify.smoothing import smoothing

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
