"""Change colors and blur images."""

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.errors import InputError

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


def gaussian_blur(images: Tensor, sigma: Tensor, *, kernel_size: int) -> Tensor:
    """Convolve each image with a Gaussian of its own, as torchvision does with one.

    Args:
        images: (B, C, H, W) floating.
        sigma: (B,) standard deviations in pixels, positive.
        kernel_size: Odd side of the kernel in pixels; the edges are reflected, so half of it is
            less than either side of the images.

    Returns:
        (B, C, H, W) blurred images.

    Raises:
        InputError: When the kernel is even or too large.
    """
    half = kernel_size // 2
    if kernel_size < 1 or kernel_size % 2 == 0 or half >= min(images.shape[2:]):
        raise InputError(
            f"kernel_size {kernel_size} is not odd, or too large for images of "
            f"{images.shape[3]}x{images.shape[2]}"
        )
    rows, channels, height, width = images.shape
    steps = torch.arange(-half, half + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (steps[None, :] / sigma[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    # One group per image and channel; the two axes one after the other.
    weights = kernel.repeat_interleave(channels, dim=0)
    planes = functional.pad(images, [half] * 4, mode="reflect")
    planes = planes.reshape(1, rows * channels, height + 2 * half, width + 2 * half)
    planes = functional.conv2d(planes, weights[:, None, :, None], groups=rows * channels)
    planes = functional.conv2d(planes, weights[:, None, None, :], groups=rows * channels)
    return planes.view(rows, channels, height, width)
