"""Starts, gradients and steps that attacks share."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robustcl.core.choices import Norm
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


def value_and_gradient(
    function: Callable[[Tensor], Tensor], points: Tensor
) -> tuple[Tensor, Tensor]:
    """Evaluate a function row by row, with its gradient; numbers that are not finite become 0.

    Args:
        function: (B, ...) to (B,), each row by itself.
        points: (B, ...).

    Returns:
        (B,) values, a NaN as -inf, and the (B, ...) gradients.
    """
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        values = function(points)
        gradient = torch.autograd.grad(values.sum(), points)[0]
    return no_win(values.detach()), gradient.nan_to_num(0.0, 0.0, 0.0)


def no_win(values: Tensor) -> Tensor:
    """Read a NaN as -inf: it is no win.

    Args:
        values: (B,).

    Returns:
        (B,) values.
    """
    return values.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def step_upwards(
    gradient: Tensor,
    points: Tensor,
    images: Tensor,
    threat: Threat,
    *,
    pixels: Tensor | None = None,
) -> Tensor:
    """Return a step of norm 1 along which the linear function rises: in L1 not only one pixel.

    Args:
        gradient: (B, ...).
        points: (B, ...) points in the box.
        images: (B, ...) images.
        threat: Norm and box.
        pixels: (B,) how many pixels a step in L1 moves; see `pixels_to_move` for the default.

    Returns:
        (B, ...) steps; 0 where the gradient is.
    """
    if threat.norm != "l1":
        return steepest_direction(gradient, threat.norm)
    free = free_to_move(gradient, points, threat.box)
    if pixels is None:
        pixels = pixels_to_move(free, points, images).round()
    return signs_of_largest(free, pixels)


def steepest_direction(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the step of norm 1 along which the linear function rises most.

    Args:
        gradient: (B, ...).
        norm: 'l2': the gradient's direction; 'linf': its sign; 'l1': the sign of its largest entry.

    Returns:
        (B, ...) steps; 0 where the gradient is.
    """
    if norm == "linf":
        return gradient.sign()
    if norm == "l1":
        return signs_of_largest(gradient, torch.ones(len(gradient), device=gradient.device))
    # Dividing by the largest entry first keeps tiny gradients from being squared to zero.
    flat = gradient.flatten(1)
    flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(1e-38)
    return torch.nn.functional.normalize(flat, dim=1).view_as(gradient)


def column(values: Tensor, images: Tensor) -> Tensor:
    """Give one number per image the shape that multiplies images.

    Args:
        values: (B,).
        images: (B, ...).

    Returns:
        (B, 1, ...).
    """
    return values.view(-1, *[1] * (images.ndim - 1))


FIRST_SHARE = 0.2  # of all pixels, that the first step moves
_KEPT = 1.5  # an attack moves as many pixels as its best point has, divided by this


def signs_of_largest(gradient: Tensor, pixels: Tensor) -> Tensor:
    """Return the step of L1 norm 1 that moves some pixels alike, those of the largest gradients.

    With one pixel it is the step along which the linear function rises most. Steps along more of
    them get ahead where the box, or curvature, lets no pixel move far.

    Args:
        gradient: (B, ...).
        pixels: (B,) how many, 1 or more.

    Returns:
        (B, ...) steps; 0 where the gradient is.

    Reference:
        Croce and Hein, Mind the Box: l1-APGD for Sparse Adversarial Attacks on Image Classifiers,
        ICML 2021, (11) and algorithm 1.
    """
    flat = gradient.flatten(1)
    order = flat.abs().argsort(dim=1, descending=True, stable=True)
    early = torch.arange(flat.shape[1], device=flat.device) < pixels.clamp_min(1)[:, None]
    signs = flat.sign() * torch.zeros_like(flat).scatter(1, order, early.to(flat))
    return (signs / signs.abs().sum(dim=1, keepdim=True).clamp_min(1.0)).view_as(gradient)


def free_to_move(gradient: Tensor, points: Tensor, box: tuple[float, float] | None) -> Tensor:
    """Leave out pixels that the box holds where they are.

    Args:
        gradient: (B, ...).
        points: (B, ...) points in the box.
        box: Pixel range, or None.

    Returns:
        The gradient, 0 where its pixel lies at the edge to which it leads.
    """
    if box is None:
        return gradient
    held = torch.where(gradient > 0, points >= box[1], points <= box[0])
    return gradient.masked_fill(held, 0.0)


def pixels_to_move(free: Tensor, points: Tensor, images: Tensor) -> Tensor:
    """Choose how many pixels the next step moves, by those that have been moved.

    Two thirds of them: where fewer will do, the others lose their share in the projection, and
    where more are needed, the step reaches others than the last one did.

    Args:
        free: (B, ...) gradients from `free_to_move`; pixels that are held do not count.
        points: (B, ...) points.
        images: (B, ...) images; at the image itself it is a fifth of all pixels.

    Returns:
        (B,) numbers, to be rounded.
    """
    moved = pixels_moved(points, images)
    movable = ((points != images) & (free != 0)).flatten(1).sum(dim=1)
    first = round(FIRST_SHARE * images[0].numel())
    return torch.where(moved > 0, movable / _KEPT, first)


def pixels_moved(points: Tensor, images: Tensor) -> Tensor:
    """Count the pixels in which points differ from images.

    Args:
        points: (B, ...).
        images: (B, ...).

    Returns:
        (B,) numbers.
    """
    return (points != images).flatten(1).sum(dim=1)
