"""Choose the pixels that a step in L1 moves."""

import torch
from torch import Tensor

FIRST_SHARE = 0.2  # of all pixels, that the first step moves
KEPT = 1.5  # an attack moves as many pixels as its best point has, divided by this


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
    return torch.where(moved > 0, movable / KEPT, first)


def pixels_moved(points: Tensor, images: Tensor) -> Tensor:
    """Count the pixels in which points differ from images.

    Args:
        points: (B, ...).
        images: (B, ...).

    Returns:
        (B,) numbers.
    """
    return (points != images).flatten(1).sum(dim=1)
