"""Report how far apart class vectors are, and what that allows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.errors import InputError


@dataclass(frozen=True)
class TargetGeometry:
    """Report class vectors.

    Args:
        cosines: K rows of K pairwise cosines.
        mean_cosine: Mean over pairs of different classes.
        closest: The two classes with the highest cosine.
        highest_cosine: That cosine.
        caps: Per class the distance on the unit sphere's chord from its vector to the nearest
            boundary, min_j |w_y - w_j| / 2. Where an encoder z = h / |h| has Lipschitz constant L,
            no image embedded at its class vector has a certified radius above cap / L.
    """

    cosines: tuple[tuple[float, ...], ...]
    mean_cosine: float
    closest: tuple[str, str]
    highest_cosine: float
    caps: tuple[float, ...]


def target_geometry(vectors: Tensor, class_names: Sequence[str]) -> TargetGeometry:
    """Compute pairwise cosines and the caps on the radius that they imply.

    Args:
        vectors: (K, D) class vectors, normalized here; K >= 2.
        class_names: K names.

    Returns:
        The report.

    Raises:
        InputError: When there is not one name per vector, or fewer than two vectors.
    """
    if len(vectors) != len(class_names) or len(vectors) < 2:
        raise InputError(f"{len(class_names)} names for {len(vectors)} class vectors; two or more")
    units = functional.normalize(vectors.double(), dim=1)
    cosines = (units @ units.T).clamp(-1.0, 1.0)
    pairs = cosines.masked_fill(torch.eye(len(units), dtype=torch.bool), -torch.inf)
    place = int(pairs.argmax())
    row, column = sorted(divmod(place, len(units)))
    others = pairs[torch.isfinite(pairs)]
    return TargetGeometry(
        cosines=tuple(tuple(line) for line in cosines.tolist()),
        mean_cosine=float(others.mean()),
        closest=(class_names[row], class_names[column]),
        highest_cosine=float(pairs.max()),
        caps=tuple((((1.0 - pairs.amax(dim=1)) / 2.0).sqrt()).tolist()),
    )
