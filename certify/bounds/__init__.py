"""Bounds: numbers, not claims."""

from robustcl.certify.bounds.alpha_crown import optimized_lower_bounds, split_lower_bounds
from robustcl.certify.bounds.confidence import (
    betting_confidence_sequence,
    betting_lower_bound,
    clopper_pearson_lower_bound,
    empirical_bernstein_lower_bound,
)
from robustcl.certify.bounds.layers import layer_norm, prefix_norms, view_norm
from robustcl.certify.bounds.lines import Surroundings, lower_bounds
from robustcl.certify.bounds.networks import NetworkNorm, network_norm
from robustcl.certify.bounds.regions import ball_regions, center_regions
from robustcl.certify.bounds.slopes import slope_bounds
from robustcl.certify.bounds.tracing import trace
from robustcl.certify.bounds.zonotope_slopes import best_slope_bounds, generator_slope_bounds
from robustcl.certify.graph import Network
from robustcl.certify.ops.enclosures import Region

__all__ = [
    "Network",
    "NetworkNorm",
    "Region",
    "Surroundings",
    "ball_regions",
    "best_slope_bounds",
    "betting_confidence_sequence",
    "betting_lower_bound",
    "center_regions",
    "clopper_pearson_lower_bound",
    "empirical_bernstein_lower_bound",
    "generator_slope_bounds",
    "layer_norm",
    "lower_bounds",
    "network_norm",
    "optimized_lower_bounds",
    "prefix_norms",
    "slope_bounds",
    "split_lower_bounds",
    "trace",
    "view_norm",
]
