"""Bounds: numbers, not claims."""

from certify.bounds.confidence import (
    betting_lower_bound,
    clopper_pearson_lower_bound,
    empirical_bernstein_lower_bound,
)
from certify.bounds.confidence_sequence import betting_confidence_sequence
from certify.bounds.convolution_norm import convolution_norm
from certify.bounds.generator_slopes import best_slope_bounds, generator_slope_bounds
from certify.bounds.layer_norm import layer_norm
from certify.bounds.lines import Surroundings, lower_bounds
from certify.bounds.network_norm import NetworkNorm, network_norm
from certify.bounds.optimized_lines import optimized_lower_bounds
from certify.bounds.pooling_norm import pooling_norm
from certify.bounds.prefix_norms import prefix_norms
from certify.bounds.regions import Region, ball_regions, center_regions
from certify.bounds.slopes import slope_bounds
from certify.bounds.split_lines import split_lower_bounds
from certify.bounds.trace import Network, trace
from certify.bounds.view_norm import view_norm

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
    "convolution_norm",
    "empirical_bernstein_lower_bound",
    "generator_slope_bounds",
    "layer_norm",
    "lower_bounds",
    "network_norm",
    "optimized_lower_bounds",
    "pooling_norm",
    "prefix_norms",
    "slope_bounds",
    "split_lower_bounds",
    "trace",
    "view_norm",
]
