"""Take gradients with respect to images, of which nothing else is left behind."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustcl.attacks.sparse_steps import free_to_move, pixels_to_move, signs_of_largest
from robustcl.core.choices import Norm
from robustcl.core.threat import Threat


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
        return steepest(gradient, threat.norm)
    free = free_to_move(gradient, points, threat.box)
    if pixels is None:
        pixels = pixels_to_move(free, points, images).round()
    return signs_of_largest(free, pixels)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
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
