"""Heads: embeddings in, class scores out; one file per head."""

from robustcl.models.heads._knn import KNNHead, knn
from robustcl.models.heads._linear import LinearHead, linear
from robustcl.models.heads._lipschitz_linear import lipschitz_linear
from robustcl.models.heads._prototype import PrototypeHead, prototype

__all__ = [
    "KNNHead",
    "LinearHead",
    "PrototypeHead",
    "knn",
    "linear",
    "lipschitz_linear",
    "prototype",
]
