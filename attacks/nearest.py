"""Keep the nearest winning point of each image while an attack looks around."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.attacks.steps import column
from robustcl.core.threat import Threat, perturbation_norm

ENDLESS = 1e30  # a budget that nothing exceeds
TOLERANCE = 1e-6  # relative excess over a budget that rounding may cause


@dataclass(frozen=True, eq=False)
class Nearest:
    """Hold the nearest winning point of each image.

    Args:
        points: (B, ...) points; the image itself where none has won.
        norms: (B,) float64 norms of their perturbations; infinite where none has won.
    """

    points: Tensor
    norms: Tensor


def none_found(images: Tensor) -> Nearest:
    """Begin with nothing.

    Args:
        images: (B, ...) images.

    Returns:
        No winning point.
    """
    endless = torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
    return Nearest(images.detach().clone(), endless)


def nearer(
    before: Nearest, images: Tensor, points: Tensor, margin: Tensor, threat: Threat
) -> Nearest:
    """Take the points that win, lie within the budget and are nearer than those before.

    Args:
        before: What is known.
        images: (B, ...) images.
        points: (B, ...) points at which the margin was evaluated.
        margin: (B,) margins.
        threat: Norm and budgets.

    Returns:
        The nearer of both, image by image.
    """
    norms = perturbation_norm(points - images, threat.norm)
    allowed = norms <= threat.radii(images).double() * (1.0 + TOLERANCE)
    better = (margin > 0) & allowed & (norms < before.norms)
    return Nearest(
        torch.where(column(better, images), points, before.points),
        torch.where(better, norms, before.norms),
    )


def nearest(first: Nearest, second: Nearest) -> Nearest:
    """Take the nearer of two points, image by image.

    Args:
        first: Points; they stay where both are as near.
        second: Other points for the same images.

    Returns:
        The nearer ones.
    """
    better = second.norms < first.norms
    return Nearest(
        torch.where(column(better, first.points), second.points, first.points),
        torch.where(better, second.norms, first.norms),
    )
