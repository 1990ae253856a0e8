"""Climb the margin by projected gradient steps."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from attacks.held import held
from robustcl.errors import InputError
from robustcl.objectives import Objective
from robustcl.seeds import example_noise, example_seed
from robustcl.threat import Threat


def pgd(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    steps: int = 40,
    restarts: int = 1,
    step_size: float | None = None,
    momentum: float = 0.25,
    seeds: Sequence[int] | None = None,
) -> Tensor:
    """Climb the objective's margin from random starts and keep the best point of each image.

    Steps follow the sign of the gradient (Linf) or the normalized gradient (L2), projected onto
    the threat. By default the step shrinks from 2 eps to 0 along a cosine. An image that is won
    stops one step later, whatever the others do, so it meets the same fate alone and in a batch.

    Args:
        objective: What is raised; its margin is the loss.
        images: (B, C, H, W) clean images.
        threat: Norm, budgets (one per image if wanted) and box.
        steps: Gradient steps per start.
        restarts: Random starts.
        step_size: A fixed step in pixel units; None for the shrinking one.
        momentum: Share of the last move in the next one, in [0, 1).
        seeds: One seed per image; 0, 1, ... by default.

    Returns:
        (B, C, H, W) candidates, not verified: `run` does that.

    Raises:
        InputError: When an option is out of range, or steps x step_size < 2 eps.

    Reference:
        Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018;
        the momentum of Croce and Hein, Reliable Evaluation of Adversarial Robustness, ICML 2020,
        algorithm 1.
    """
    if steps < 1 or restarts < 1 or not 0 <= momentum < 1:
        raise InputError(
            f"steps {steps}, restarts {restarts} or momentum {momentum} is out of range; "
            "use steps >= 1, restarts >= 1, 0 <= momentum < 1"
        )
    if seeds is not None and len(seeds) != len(images):
        raise InputError(f"{len(seeds)} seeds for {len(images)} images; give one each")
    radii = threat.radii(images).detach()
    if step_size is not None:
        check_step_size(step_size, steps=steps, eps=float(radii.max()))
    best = images.detach().clone()
    highest = torch.full_like(radii, -torch.inf)
    with held(objective):
        for restart in range(restarts):
            own = [example_seed(seed, restart, "pgd start") for seed in seeds or range(len(images))]
            points = _start(images, threat, own)
            sizes = [_step(step, steps, step_size, radii) for step in range(steps)]
            _climb(objective, images, threat, points, sizes, momentum, best, highest)
            if bool((highest > 0).all()):
                break
    return best


def check_step_size(step_size: float, *, steps: int, eps: float) -> None:
    """Refuse fixed steps that cannot cross the ball.

    Args:
        step_size: In pixel units.
        steps: Number of steps.
        eps: Largest budget, in pixel units.

    Raises:
        InputError: When steps x step_size < 2 eps, or the step is not positive.
    """
    # 1e-6 forgives eps = 8/255 having been rounded to float32.
    if not step_size > 0 or steps * step_size < 2 * eps * (1 - 1e-6):
        raise InputError(
            f"{steps} steps of {step_size:g} cannot cross a ball of radius {eps:g}; use step_size "
            f">= {2 * eps / steps:.6g}, or leave step_size out"
        )


def _step(step: int, steps: int, fixed: float | None, radii: Tensor) -> Tensor:
    if fixed is not None:
        return torch.full_like(radii, fixed)
    return radii * (1.0 + math.cos(math.pi * step / steps))


def _start(images: Tensor, threat: Threat, seeds: Sequence[int]) -> Tensor:
    """Draw a point of the ball: anywhere in the cube (Linf), on the sphere (L2)."""
    kind = "uniform" if threat.norm == "linf" else "normal"
    noise = example_noise(
        seeds, images.shape[1:], kind=kind, dtype=images.dtype, device=images.device
    )
    if threat.norm == "l2":
        noise = _unit(noise)
    return threat.project(images, images + noise * _column(threat.radii(images), images))


def _climb(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    points: Tensor,
    sizes: Sequence[Tensor],
    momentum: float,
    best: Tensor,
    highest: Tensor,
) -> None:
    """Walk from one start; `best` and `highest` are raised in place."""
    finished = highest > 0
    move = torch.zeros_like(points)
    for number in range(len(sizes) + 1):
        last = number == len(sizes)
        values, gradient = _value_and_gradient(objective, points, gradient=not last)
        better = (values > highest) & ~finished
        finished = highest > 0  # won before this point: one more was looked at, and that is all
        best[better] = points[better]
        highest[better] = values[better]
        if last or bool(finished.all()):
            return
        direction = gradient.sign() if threat.norm == "linf" else _unit(gradient)
        ahead = threat.project(images, points + direction * _column(sizes[number], images))
        if number:
            ahead = points + (1 - momentum) * (ahead - points) + momentum * move
            ahead = threat.project(images, ahead)
        move, points = ahead - points, ahead


def _value_and_gradient(
    objective: Objective, points: Tensor, *, gradient: bool
) -> tuple[Tensor, Tensor]:
    if not gradient:
        with torch.no_grad():
            return objective.margin(points).detach(), torch.zeros_like(points)
    with torch.enable_grad():
        leaf = points.detach().requires_grad_()
        values = objective.margin(leaf)
        if not values.requires_grad:
            raise InputError("the objective's margin has no gradient; pgd needs one")
        (slope,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), torch.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0)


def _unit(vectors: Tensor) -> Tensor:
    """Scale each row to length 1; first by its largest entry, lest tiny squares vanish."""
    flat = vectors.flatten(1)
    flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
    lengths = torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp_min(1e-12)
    return (flat / lengths).view_as(vectors)


def _column(numbers: Tensor, images: Tensor) -> Tensor:
    return numbers.view(-1, *[1] * (images.ndim - 1))
