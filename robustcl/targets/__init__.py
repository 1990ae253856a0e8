"""Class vectors that the semantic loss pulls images to; one file per source."""

from robustcl.targets.embed_targets import embed_targets
from robustcl.targets.load_targets import load_targets
from robustcl.targets.npy_vectors import npy_vectors
from robustcl.targets.shaped import centered, with_simplex
from robustcl.targets.simplex import simplex
from robustcl.targets.target_geometry import TargetGeometry, target_geometry
from robustcl.targets.taxonomy import CIFAR10_TREE, taxonomy
from robustcl.targets.word_vectors import word_vectors

__all__ = [
    "CIFAR10_TREE",
    "TargetGeometry",
    "centered",
    "embed_targets",
    "load_targets",
    "npy_vectors",
    "simplex",
    "target_geometry",
    "taxonomy",
    "with_simplex",
    "word_vectors",
]
