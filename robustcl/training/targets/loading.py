"""Load class vectors by their specification, as on the command line."""

from collections.abc import Sequence

from torch import Tensor

from robustcl.core.errors import InputError
from robustcl.core.specification import parse_number
from robustcl.training.targets.trees import CIFAR10_TREE, read_tree, taxonomy
from robustcl.training.targets.vectors import (
    centered_vectors,
    npy_vectors,
    simplex,
    with_simplex,
    word_vectors,
)

_SOURCES = "simplex, taxonomy, taxonomy:FILE.toml, words:FILE.txt, npy:FILE.npy"


def load_targets(spec: str, class_names: Sequence[str]) -> Tensor:
    """Load the class vectors that a specification names.

    Known are simplex, taxonomy (that of CIFAR-10, or of a TOML file), words:FILE (text in the
    format of word2vec) and npy:FILE. After it may follow ',center=true' and ',blend=B': the share
    of the simplex, 0 by default.

    Args:
        spec: The specification.
        class_names: K names, in the order of the labels.

    Returns:
        (K, D) unit or raw rows in float64; `embed_targets` brings them to an embedding's size.

    Raises:
        InputError: When the source or an option is unknown or a class has no vector.
    """
    text, center, blend = _options(spec)
    name, _, path = text.partition(":")
    if name == "simplex" and not path:
        vectors = simplex(len(class_names))
    elif name == "taxonomy":
        vectors = taxonomy(class_names, read_tree(path) if path else CIFAR10_TREE)
    elif name == "words" and path:
        vectors = word_vectors(path, class_names)
    elif name == "npy" and path:
        vectors = npy_vectors(path, len(class_names))
    else:
        raise InputError(f"unknown targets {spec!r}; known are {_SOURCES}")
    vectors = centered_vectors(vectors) if center else vectors
    return with_simplex(vectors, blend) if blend else vectors


def _options(spec: str) -> tuple[str, bool, float]:
    # Options are split from the right, so that a path may hold commas.
    text, center, blend = spec, False, 0.0
    while "," in text and "=" in text.rpartition(",")[2]:
        text, _, option = text.rpartition(",")
        key, _, value = option.partition("=")
        if key == "center" and value in ("true", "false"):
            center = value == "true"
        elif key == "blend":
            blend = parse_number(value)
        else:
            raise InputError(f"cannot read {option!r} in {spec!r}; write center=true or blend=0.5")
    return text, center, blend
