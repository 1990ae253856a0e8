"""Make class vectors from a tree of kinds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.errors import InputError
from robustcl.core.files import read_toml
from robustcl.core.memory import require_memory

Tree = Mapping[str, Any]
_MOST_BYTES = 2**22  # of a file
_DEEPEST = 100  # levels

CIFAR10_TREE: Tree = {
    "animal": {
        "mammal": {
            "pet": {"cat": {}, "dog": {}},
            "ungulate": {"deer": {}, "horse": {}},
        },
        "bird": {},
        "frog": {},
    },
    "vehicle": {
        "road": {"automobile": {}, "truck": {}},
        "airplane": {},
        "ship": {},
    },
}


def taxonomy(class_names: Sequence[str], tree: Tree = CIFAR10_TREE) -> Tensor:
    """Give each class the sum of one direction per kind that it belongs to, itself included.

    Classes that share more kinds have a higher cosine: the number of shared kinds over the
    geometric mean of how many each has.

    Args:
        class_names: K names, each once in the tree.
        tree: Names to subtrees; a class has an empty one.

    Returns:
        (K, nodes) unit rows in float64.

    Raises:
        InputError: When a class is not in the tree, or twice, or the tree is too deep or too wide.
    """
    paths: dict[str, tuple[str, ...]] = {}
    _collect(tree, (), paths)
    missing = [name for name in class_names if name not in paths]
    if missing:
        raise InputError(
            f"the taxonomy has no {', '.join(missing[:5])} ({len(missing)} of {len(class_names)} "
            "classes); give your own by taxonomy:FILE.toml, or use --targets simplex"
        )
    nodes = sorted({"/".join(path[: n + 1]) for path in paths.values() for n in range(len(path))})
    place = {node: column for column, node in enumerate(nodes)}
    require_memory(
        16 * len(class_names) * len(nodes),
        what=f"a taxonomy of {len(nodes):,} kinds for {len(class_names):,} classes",
        cure="leave out kinds that no class belongs to",
    )
    vectors = torch.zeros(len(class_names), len(nodes), dtype=torch.float64)
    for row, name in enumerate(class_names):
        path = paths[name]
        for depth in range(len(path)):
            vectors[row, place["/".join(path[: depth + 1])]] = 1.0
    return functional.normalize(vectors, dim=1)


def read_tree(path: str | Path) -> Tree:
    """Read a tree from TOML: tables are kinds, and empty tables are classes.

    Args:
        path: The file, with lines such as 'animal = {cat = {}, dog = {}}'.

    Returns:
        The tree.

    Raises:
        InputError: When the file is missing or not TOML.
    """
    try:
        return read_toml(Path(path), most=_MOST_BYTES)
    except ValueError as error:
        raise InputError(
            f"{str(path)!r} {error}; give taxonomy:FILE.toml a TOML file of kinds and classes"
        ) from error


def _collect(tree: Tree, above: tuple[str, ...], paths: dict[str, tuple[str, ...]]) -> None:
    if len(above) > _DEEPEST:
        raise InputError(
            f"the taxonomy has more than {_DEEPEST} levels below {above[0]!r}; write fewer"
        )
    for name, below in tree.items():
        if not isinstance(below, Mapping):
            raise InputError(f"{name!r} in the taxonomy is {below!r}; write {name} = {{}}")
        if below:
            _collect(below, (*above, name), paths)
        elif name in paths:
            raise InputError(f"class {name!r} stands twice in the taxonomy; keep one")
        else:
            paths[name] = (*above, name)
