"""Blur images with a width of its own for each."""

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.errors import InputError


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
