"""Place class vectors as far apart as can be."""

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.errors import InputError


def simplex(num_classes: int) -> Tensor:
    """Return the corners of a regular simplex.

    Args:
        num_classes: K >= 2.

    Returns:
        (K, K) unit rows in float64, any two with cosine -1 / (K - 1).

    Raises:
        InputError: When K is below 2.
    """
    if num_classes < 2:
        raise InputError(f"a simplex of {num_classes} classes has no two corners; need 2 or more")
    corners = torch.eye(num_classes, dtype=torch.float64) - 1.0 / num_classes
    return functional.normalize(corners, dim=1)
