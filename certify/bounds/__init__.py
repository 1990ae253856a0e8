"""Bounds: numbers, not claims."""

from certify.bounds.confidence import betting_lower_bound, clopper_pearson_lower_bound
from certify.bounds.convolution_norm import convolution_norm
from certify.bounds.layer_norm import layer_norm
from certify.bounds.network_norm import NetworkNorm, network_norm
from certify.bounds.pooling_norm import pooling_norm

__all__ = [
    "NetworkNorm",
    "betting_lower_bound",
    "clopper_pearson_lower_bound",
    "convolution_norm",
    "layer_norm",
    "network_norm",
    "pooling_norm",
]
