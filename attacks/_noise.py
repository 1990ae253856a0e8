"""Attack by random noise: the baseline that every attack has to beat."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from robustcl.attacks.results import Candidates
from robustcl.attacks.steps import column, no_win
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective
from robustcl.core.seeds import example_noise, example_seed
from robustcl.core.specification import choose
from robustcl.core.threat import Threat, perturbation_norm


def noise(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    draws: int = 100,
    kind: str = "uniform",
    seeds: Sequence[int] | None = None,
) -> Candidates:
    """Draw points in the ball and keep the one of the highest margin. No gradients are used.

    Args:
        objective: What is raised.
        images: (B, C, H, W) in the box.
        threat: The ball, with one budget or one per image.
        draws: Points per image.
        kind: 'uniform' in the ball, or 'normal': Gaussian noise, scaled to the budget.
        seeds: One seed per image; 0, 1, ... by default.

    Returns:
        The best points, and no gradients.

    Raises:
        InputError: When there are no draws, or the kind is unknown.

    Reference:
        Carlini et al., On Evaluating Adversarial Robustness, 2019, section 5.
    """
    choose(kind, ("uniform", "normal"), what="kind of noise")
    if draws < 1:
        raise InputError(f"noise with draws={draws} does nothing; use 1 or more")
    seeds = list(range(len(images)) if seeds is None else seeds)
    best = images.detach().clone()
    with torch.no_grad():
        highest = no_win(objective.margin(images))
        for draw in range(draws):
            mixed = [example_seed(seed, draw, "noise") for seed in seeds]
            points = threat.project(images, images + _drawn(images, threat, kind, mixed))
            margin = no_win(objective.margin(points))
            better = margin > highest
            highest = torch.where(better, margin, highest)
            best = torch.where(column(better, images), points, best)
    return Candidates(best, torch.zeros(len(images), dtype=torch.int64))


def _drawn(images: Tensor, threat: Threat, kind: str, seeds: Sequence[int]) -> Tensor:
    shape, radii = images.shape[1:], column(threat.radii(images), images)
    where = {"dtype": images.dtype, "device": images.device}
    if kind == "uniform" and threat.norm == "linf":
        return radii * example_noise(seeds, shape, kind="uniform", **where)
    # One number more than there are pixels: it is the share of the radius, of which the
    # n-th root is uniform in volume.
    flat = example_noise(seeds, (shape.numel() + 1,), dtype=images.dtype).to(images.device)
    delta = flat[:, :-1].view_as(images)
    if kind == "uniform" and threat.norm == "l1":
        # Laplace noise by its quantiles: all directions with the same L1 norm are as likely.
        delta = -delta.sign() * (torch.special.log_ndtr(-delta.abs()) + math.log(2.0))
    delta = delta / column(perturbation_norm(delta, threat.norm).to(images), images)
    if kind == "uniform":
        share = torch.special.ndtr(flat[:, -1]) ** (1.0 / shape.numel())
        delta = delta * column(share, images)
    return radii * delta
