"""Draw points in the ball, with a seed per image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from robustcl.attacks.gradient import column
from robustcl.core.seeds import example_noise, example_seed
from robustcl.core.threat import Threat


def random_start(
    images: Tensor, threat: Threat, seeds: Sequence[int], *, run: int = 0, purpose: str
) -> Tensor:
    """Draw a point per image, and cut it by the box.

    For Linf it is uniform in the ball, for L2 uniform on the sphere. For L1 normal noise, scaled by
    the budget, is projected: on the sphere too, with few pixels moved.

    Args:
        images: (B, ...) images.
        threat: The ball.
        seeds: One seed per image.
        run: Number of the draw.
        purpose: The attack, so that no two share their noise.

    Returns:
        (B, ...) points.
    """
    kind = "uniform" if threat.norm == "linf" else "normal"
    mixed = [example_seed(seed, run, purpose) for seed in seeds]
    noise = example_noise(
        mixed, images.shape[1:], kind=kind, dtype=images.dtype, device=images.device
    )
    if threat.norm == "l2":
        noise = torch.nn.functional.normalize(noise.flatten(1), dim=1).view_as(images)
    return threat.project(images, images + column(threat.radii(images), images) * noise)
