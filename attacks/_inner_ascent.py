"""Raise a training loss within a ball: the inner problem of adversarial training."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustcl.attacks.steps import column, steepest_direction
from robustcl.core.errors import InputError
from robustcl.core.threat import Threat

LEAST_STEP, CROSSING = 0.25, 1.25  # in units of the budget: of one step, and of all together


def inner_ascent(
    loss: Callable[[Tensor], Tensor],
    images: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator,
    steps: int = 5,
    step_size: float = 0.0,
    gradient: Tensor | None = None,
) -> Tensor:
    """Take projected gradient steps on a loss that may couple the images of a batch.

    Made for training: all randomness comes from one generator, the last point is returned and no
    margin is measured, so this is no evaluation; for that see `pgd`. Only gradients by the images
    are taken: nothing is added to the `grad` of weights, and the caller holds the model still.

    Args:
        loss: (B, ...) images to losses of any shape, whose sum is raised.
        images: (B, ...) in the box.
        threat: The ball, with one budget or one per image.
        generator: Source of the random start, on the device of the images.
        steps: Steps; one of 1.25 eps from a random start is the 'fast' variant.
        step_size: Step in units of eps; 0 for the larger of 1.25/steps and 0.25, which gives the
            2/255 of five or ten steps within 8/255 that the papers take.
        gradient: (B, ...) gradient of the loss at the images where it is known already: the first
            step then starts at the images and costs nothing (the 'free' variant).

    Returns:
        (B, ...) points within the threat, without gradient.

    Raises:
        InputError: When a step is missing or negative, the budget is 0, or the norm another.

    Reference:
        Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018;
        Wong et al., Fast Is Better than Free, ICLR 2020, algorithm 3 (one step); Shafahi et al.,
        Adversarial Training for Free, NeurIPS 2019 (the gradient of the step before is used).
    """
    if threat.norm not in ("l2", "linf"):
        raise InputError(f"an inner attack in {threat.norm} is not made; use l2 or linf")
    radii = column(threat.radii(images), images)
    if steps < 1 or step_size < 0.0 or not bool((radii > 0).all()):
        raise InputError(
            f"an inner attack with steps={steps}, step_size={step_size}, eps={threat.eps} moves "
            "nothing; use 1 step or more and eps > 0, as 8/255"
        )
    share = step_size or max(CROSSING / steps, LEAST_STEP)
    clean = images.detach()
    points = clean if gradient is not None else _drawn(clean, radii, threat, generator)
    for step in range(steps):
        slope = gradient if step == 0 and gradient is not None else _slope(loss, points)
        move = (
            share
            * radii
            * steepest_direction(slope.detach().nan_to_num(0.0, 0.0, 0.0), threat.norm)
        )
        points = threat.project(clean, points + move)
    return points


def _slope(loss: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        return torch.autograd.grad(loss(points).sum(), points)[0]


def _drawn(images: Tensor, radii: Tensor, threat: Threat, generator: torch.Generator) -> Tensor:
    # Uniform in the Linf ball; in L2 a random direction with a length uniform in (0, eps).
    place = {"generator": generator, "device": images.device, "dtype": images.dtype}
    if threat.norm == "linf":
        noise = 2.0 * torch.rand(images.shape, **place) - 1.0
    else:
        noise = steepest_direction(torch.randn(images.shape, **place), "l2")
        noise = noise * column(torch.rand(len(images), **place), images)
    return threat.project(images, images + radii * noise)
