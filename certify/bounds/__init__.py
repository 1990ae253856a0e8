"""Bounds: numbers, not claims."""

from robustcl.certify.bounds.alpha_crown import optimized_lower_bounds, split_lower_bounds
from robustcl.certify.bounds.confidence import (
    betting_confidence_sequence,
    betting_lower_bound,
    clopper_pearson_lower_bound,
    empirical_bernstein_lower_bound,
)
from robustcl.certify.bounds.layers import layer_lipschitz_bound, prefix_norms, view_norm
from robustcl.certify.bounds.linear_bounds import Surroundings, lower_bounds
from robustcl.certify.bounds.networks import NetworkLipschitzBound, network_lipschitz_bound
from robustcl.certify.bounds.preactivation_bounds import ball_bounds, center_bounds
from robustcl.certify.bounds.slopes import slope_bounds
from robustcl.certify.bounds.tracing import trace
from robustcl.certify.bounds.zonotope_slopes import best_jacobian_bounds, zonotope_jacobian_bounds
from robustcl.certify.graph import Network
from robustcl.certify.ops.enclosures import Region

__all__ = [
    "Network",
    "NetworkLipschitzBound",
    "Region",
    "Surroundings",
    "ball_bounds",
    "best_jacobian_bounds",
    "betting_confidence_sequence",
    "betting_lower_bound",
    "center_bounds",
    "clopper_pearson_lower_bound",
    "empirical_bernstein_lower_bound",
    "layer_lipschitz_bound",
    "lower_bounds",
    "network_lipschitz_bound",
    "optimized_lower_bounds",
    "prefix_norms",
    "slope_bounds",
    "split_lower_bounds",
    "trace",
    "view_norm",
    "zonotope_jacobian_bounds",
]
