"""Move class vectors apart: center them, or blend them with the simplex."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.errors import InputError
from robustcl.targets.simplex import simplex


def centered(vectors: Tensor) -> Tensor:
    """Subtract the mean of the unit vectors and normalize again.

    Args:
        vectors: (K, D), K >= 2.

    Returns:
        (K, D) unit rows.

    Raises:
        InputError: When a vector equals the mean.
    """
    units = functional.normalize(vectors.double(), dim=1)
    moved = units - units.mean(dim=0)
    if not bool((moved.norm(dim=1) > 1e-9).all()):
        raise InputError("a class vector equals the mean of all; it has no direction of its own")
    return functional.normalize(moved, dim=1)


def with_simplex(vectors: Tensor, blend: float) -> Tensor:
    """Blend class vectors with a simplex in a space of its own.

    Args:
        vectors: (K, D).
        blend: 0 leaves the vectors as they are, 1 gives the simplex.

    Returns:
        (K, D + K) unit rows whose cosines are (1 - blend) old + blend (-1 / (K - 1)).

    Raises:
        InputError: When the blend is outside [0, 1].
    """
    if not 0.0 <= blend <= 1.0:
        raise InputError(f"blend {blend} is not in [0, 1]; 0 keeps the vectors, 1 is the simplex")
    units = functional.normalize(vectors.double(), dim=1)
    corners = simplex(len(units))
    return torch.cat([math.sqrt(1.0 - blend) * units, math.sqrt(blend) * corners], dim=1)
