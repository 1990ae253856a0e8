"""Class vectors that the semantic loss pulls images to; one file per source."""

from robustcl.training.targets.geometry import TargetGeometry, target_geometry
from robustcl.training.targets.loading import load_targets
from robustcl.training.targets.trees import CIFAR10_TREE, taxonomy
from robustcl.training.targets.vectors import (
    centered_vectors,
    embed_targets,
    npy_vectors,
    simplex,
    with_simplex,
    word_vectors,
)

__all__ = [
    "CIFAR10_TREE",
    "TargetGeometry",
    "centered_vectors",
    "embed_targets",
    "load_targets",
    "npy_vectors",
    "simplex",
    "target_geometry",
    "taxonomy",
    "with_simplex",
    "word_vectors",
]
