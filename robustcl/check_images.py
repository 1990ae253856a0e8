"""Refuse images that a model or an attack would misread."""

import torch
from torch import Tensor

from robustcl.errors import InputError


def check_images(images: Tensor, image_shape: tuple[int, int, int] | None = None) -> Tensor:
    """Return images that every certificate and attack can work on.

    Args:
        images: (B, C, H, W), floating point, in [0, 1].
        image_shape: (C, H, W) that the model takes, where it is known.

    Returns:
        The images; a plain copy where they were made in `torch.inference_mode`.

    Raises:
        InputError: When there is no image, one is not finite or has pixels outside of [0, 1], or
            type or shape are others.
    """
    if not isinstance(images, Tensor):
        raise InputError(f"images are a {type(images).__name__}; give a tensor (B, C, H, W)")
    if images.is_complex() or not images.is_floating_point():
        cure = "divide by 255" if images.dtype == torch.uint8 else "convert to float32 in [0, 1]"
        raise InputError(f"images are {images.dtype}; {cure}")
    if images.ndim != 4:
        raise InputError(f"images of shape {tuple(images.shape)} are not (B, C, H, W)")
    if not len(images):
        raise InputError("there are no images; give at least one")
    if image_shape is not None and tuple(images.shape[1:]) != image_shape:
        raise InputError(
            f"images of shape {tuple(images.shape[1:])} (C, H, W) but the encoder takes "
            f"{image_shape}; resize, or convert with --input-size"
        )
    low, high = (float(value) for value in images.detach().aminmax())
    if not (0.0 <= low and high <= 1.0):
        if not bool(torch.isfinite(images).all()):
            raise InputError("an image is not finite; leave it out")
        cure = "divide by 255" if high > 2.0 else "scale to [0, 1], normalization belongs inside"
        raise InputError(f"images have pixels from {low:g} to {high:g}, not in [0, 1]; {cure}")
    with torch.inference_mode(False):
        return images.clone() if images.is_inference() else images
