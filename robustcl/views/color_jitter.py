"""Jitter colors with factors and an order of their own per image."""

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)


def color_jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Adjust brightness, contrast, saturation and hue, in an order of its own per image.

    The operations are those of torchvision on float images. On gray images saturation and hue do
    nothing.

    Args:
        images: (B, C, H, W) in [0, 1]; C is 1 or 3.
        factors: (B, 4): brightness, contrast and saturation factors >= 0 and a hue shift in
            turns, in [-0.5, 0.5].
        order: (B, 4) a permutation of 0..3 per image: which operation comes at each place.

    Returns:
        (B, C, H, W) new images in [0, 1].
    """
    images = images.clone()
    operations = (_brightness, _contrast, _saturation, _hue)
    usable = 4 if images.shape[1] == 3 else 2
    for place in range(4):
        for number, operation in enumerate(operations[:usable]):
            rows = torch.nonzero(order[:, place] == number).squeeze(1)
            if len(rows):
                factor = factors[rows, number].view(-1, 1, 1, 1)
                images[rows] = operation(images[rows], factor)
    return images


def gray(images: Tensor) -> Tensor:
    """Return the luma of RGB images, or gray images as they are.

    Args:
        images: (B, C, H, W); C is 1 or 3.

    Returns:
        (B, 1, H, W).
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)


def _blend(images: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    return (factor * images + (1.0 - factor) * other).clamp_(0.0, 1.0)


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, 0.0, factor)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, gray(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, gray(images), factor)


def _hue(images: Tensor, shift: Tensor) -> Tensor:
    # In HSV, channel n is v - v s max(0, min(k, 4 - k, 1)) with k = (n + 6h) mod 6.
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    spread = value - images.amin(1)
    safe = torch.where(spread > 0, spread, torch.ones_like(spread))
    sixth = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe),
    )
    sixth = sixth + 6.0 * shift.view(-1, 1, 1)
    offsets = torch.tensor([5.0, 3.0, 1.0], device=images.device, dtype=images.dtype)
    k = torch.remainder(sixth.unsqueeze(1) + offsets.view(1, 3, 1, 1), 6.0)
    weight = torch.minimum(k, 4.0 - k).clamp_(0.0, 1.0)
    return value.unsqueeze(1) - spread.unsqueeze(1) * weight
