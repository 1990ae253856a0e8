"""Heads: embeddings in, class scores out; one file per head."""

from robustcl.heads.knn import KNNHead, knn
from robustcl.heads.linear import LinearHead, linear
from robustcl.heads.lipschitz_linear import lipschitz_linear
from robustcl.heads.prototype import PrototypeHead, prototype

__all__ = [
    "KNNHead",
    "LinearHead",
    "PrototypeHead",
    "knn",
    "linear",
    "lipschitz_linear",
    "prototype",
]
