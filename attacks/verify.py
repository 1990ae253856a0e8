"""Measure candidates again: what an attack says of itself does not count."""

import torch
from torch import Tensor

from robustcl.batching import fill
from robustcl.errors import InputError
from robustcl.objectives import Objective
from robustcl.threat import Threat, perturbation_norm

TOLERANCE = 1e-6  # of the budget, relative


def margins(objective: Objective, images: Tensor, *, batch_size: int) -> Tensor:
    """Measure the objective in float32, always in batches of the same shape.

    Args:
        objective: For these N images.
        images: (N, C, H, W) float32.
        batch_size: Images per call; the last batch is filled up.

    Returns:
        (N,) margins on the CPU; positive where the adversary has won.

    Raises:
        InputError: When the margin is not one number per image.
    """
    results = []
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        for rows in torch.arange(len(images)).split(batch_size):
            filled = fill(rows, batch_size)
            values = objective.select(filled).margin(images[filled])
            if values.shape != filled.shape:
                raise InputError(
                    f"the objective gives {tuple(values.shape)} for {len(filled)} images; "
                    "it must give one number per image, (B,)"
                )
            results.append(values[: len(rows)].cpu())
    return torch.cat(results)


def settle(threat: Threat, images: Tensor, candidates: Tensor) -> Tensor:
    """Project onto the threat so that rounding to float32 does not leave the ball.

    Args:
        threat: For these images.
        images: (N, C, H, W) clean images, float32.
        candidates: (N, C, H, W) wished-for images.

    Returns:
        (N, C, H, W) allowed images; what is not finite stays so.
    """
    radii = threat.radii(images).double()
    moved = threat.project(images, candidates)
    for slack in (1e-7, 1e-6, 1e-5):  # a pixel near 1 is rounded by up to 3e-8
        outside = perturbation_norm(moved - images, threat.norm) > radii * (1 + TOLERANCE)
        if not bool(outside.any()):
            break
        tighter = Threat(threat.norm, (radii[outside] - slack).clamp_min(0.0), threat.box)
        moved[outside] = tighter.project(images[outside], candidates[outside])
    return moved


def verify(
    objective: Objective, images: Tensor, candidates: Tensor, threat: Threat, *, batch_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Project candidates and measure them: finite, in the box, within the budget, and winning.

    Args:
        objective: For these N images.
        images: (N, C, H, W) clean images, float32.
        candidates: (N, C, H, W) what an attack proposes.
        threat: What it was allowed.
        batch_size: Images per model call.

    Returns:
        (N, C, H, W) adversarials, the clean image where there is none; (N,) whether the adversary
        won; (N,) float64 norms of the perturbations, infinite where not. The last two on the CPU.
    """
    moved = settle(threat, images, candidates.detach().to(images))
    allowed = torch.isfinite(moved).flatten(1).all(dim=1)
    lengths = perturbation_norm(moved.double() - images.double(), threat.norm)
    allowed &= lengths <= threat.radii(images).double() * (1 + TOLERANCE)
    if threat.box is not None:
        low, high = threat.box
        allowed &= ((moved >= low) & (moved <= high)).flatten(1).all(dim=1)
    moved = torch.where(allowed.view(-1, *[1] * (images.ndim - 1)), moved, images)
    won = margins(objective, moved, batch_size=batch_size) > 0
    success = won & allowed.cpu()
    keep = success.to(images.device).view(-1, *[1] * (images.ndim - 1))
    radius = torch.where(success, lengths.cpu(), torch.inf)
    return torch.where(keep, moved, images), success, radius
