"""Certificates: one file per method, each with one line in the table of claims.

Names are imported when they are first used: `python -m robustcl.certify` imports this package
before the command, whose help does not wait for torch.
"""

from typing import TYPE_CHECKING

from robustcl.core.lazy import lazy_exports

if TYPE_CHECKING:
    from robustcl.certify import bounds
    from robustcl.certify._center_smoothing import (
        Centers,
        Noise,
        center_smoothing,
        smoothed_centers,
    )
    from robustcl.certify._certified_radius import certified_radius
    from robustcl.certify._clever import clever, weibull_endpoint
    from robustcl.certify._crown import crown
    from robustcl.certify._displacement import Drift, displacement, smoothed_displacement
    from robustcl.certify._first_order import first_order
    from robustcl.certify._geodesic import geodesic
    from robustcl.certify._jacobian_norm import jacobian_norm
    from robustcl.certify._local import local
    from robustcl.certify._multi_view import multi_view, prepared_views
    from robustcl.certify._product import product
    from robustcl.certify._retrieval import Retrieval, retrieval, smoothed_retrieval
    from robustcl.certify._smoothing import smoothing
    from robustcl.certify.claim import Claim
    from robustcl.certify.decisions import Decision, decide_radius
    from robustcl.certify.gradients import (
        output_gradients,
        pairwise_gradient_norms,
        pairwise_slopes,
    )
    from robustcl.certify.methods import (
        METHODS,
        Method,
        certificate,
        changed_defaults,
        compare,
        parse_method,
        prepare,
        prepare_all,
    )
    from robustcl.certify.preparation import prepared_model
    from robustcl.certify.smoothing_noise import choose_clip

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
    "prepare_all",
    "prepared_model",
    "prepared_views",
    "product",
    "retrieval",
    "smoothed_centers",
    "smoothed_displacement",
    "smoothed_retrieval",
    "smoothing",
    "weibull_endpoint",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
