"""Attack by projected gradient ascent."""

from collections.abc import Sequence

import torch
from torch import Tensor

from attacks.finding import Search
from robustcl.errors import InputError
from robustcl.objectives import Objective
from robustcl.seeds import example_noise
from robustcl.threat import Threat


def pgd(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    steps: int = 40,
    restarts: int = 2,
    step_size: float = 0.0,
    seeds: Sequence[int] | None = None,
) -> Search:
    """Ascend the objective within the threat and keep the best point of all iterations.

    Steps follow the sign of the gradient for Linf, its direction for L2. The first run starts at
    the image itself, the others at random in the ball, with a seed per image.

    Args:
        objective: What is raised.
        images: (B, C, H, W) in the box.
        threat: The ball, with one budget or one per image.
        steps: Steps per run.
        restarts: Runs.
        step_size: Step in units of eps; 0 for 2.5/steps.
        seeds: One seed per image; 0, 1, ... by default.

    Returns:
        The best points and the gradients spent.

    Raises:
        InputError: When there are no steps or runs, or steps x step_size is below 2 eps, so that
            the steps cannot cross the ball.

    Reference:
        Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018.
    """
    share = step_size or 2.5 / max(steps, 1)
    if steps < 1 or restarts < 1:
        raise InputError(f"pgd with steps={steps}, restarts={restarts} does nothing; use 1 or more")
    if steps * share < 2.0:
        raise InputError(
            f"pgd with {steps} steps of {share:g} eps cannot cross the ball; need steps x step_size "
            ">= 2, so raise one of them"
        )
    radii = threat.radii(images).view(-1, *[1] * (images.ndim - 1))
    best = images.detach().clone()
    highest = torch.full((len(images),), -torch.inf, dtype=images.dtype, device=images.device)
    for run in range(restarts):
        points = images.detach().clone()
        if run:
            offsets = [seed + run for seed in (seeds or range(len(images)))]
            points = threat.project(images, images + _start(images, threat, radii, offsets))
        for step in range(steps + 1):
            points = points.detach().requires_grad_(step < steps)
            with torch.set_grad_enabled(step < steps):
                margin = objective.margin(points)
            better = margin.detach() > highest
            highest = torch.where(better, margin.detach(), highest)
            best[better] = points.detach()[better]
            if step < steps:
                (gradient,) = torch.autograd.grad(margin.sum(), points)
                moved = points.detach() + share * radii * _direction(gradient, threat)
                points = threat.project(images, moved)
    spent = torch.full((len(images),), steps * restarts, dtype=torch.int64)
    return Search(best, spent)


def _direction(gradient: Tensor, threat: Threat) -> Tensor:
    gradient = torch.nan_to_num(gradient)
    if threat.norm == "linf":
        return gradient.sign()
    # Dividing by the largest entry first keeps tiny gradients from being squared to zero.
    flat = gradient.flatten(1)
    flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(1e-38)
    return torch.nn.functional.normalize(flat, dim=1).view_as(gradient)


def _start(images: Tensor, threat: Threat, radii: Tensor, seeds: Sequence[int]) -> Tensor:
    shape = images.shape[1:]
    kind = "uniform" if threat.norm == "linf" else "normal"
    noise = example_noise(seeds, shape, kind=kind, dtype=images.dtype, device=images.device)
    if threat.norm == "linf":
        return radii * noise
    return radii * torch.nn.functional.normalize(noise.flatten(1), dim=1).view_as(images)
