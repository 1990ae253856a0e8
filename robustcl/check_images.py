"""Refuse images that a model or an attack would misread."""

import torch
from torch import Tensor

from robustcl.errors import InputError
from robustcl.plain_tensor import plain_tensor

KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_images(
    images: Tensor,
    image_shape: tuple[int, int, int] | None = None,
    *,
    box: tuple[float, float] | None = (0.0, 1.0),
) -> Tensor:
    """Return images that every certificate and attack can work on.

    Args:
        images: (B, C, H, W), floating point, in the box.
        image_shape: (C, H, W) that the model takes, where it is known.
        box: Pixel range; None for any finite pixels.

    Returns:
        The images; a plain copy where they were made in `torch.inference_mode`.

    Raises:
        InputError: When there is no image, one is not finite or has pixels outside of the box, or
            type or shape are others.
    """
    check_form(images, image_shape)
    _check_pixels(images, box)
    return plain_tensor(images)


def check_form(images: Tensor, image_shape: tuple[int, int, int] | None = None) -> None:
    """Refuse images of another type or shape than a model takes, whatever their pixels are.

    Args:
        images: (B, C, H, W), floating point.
        image_shape: (C, H, W) that the model takes, where it is known.

    Raises:
        InputError: When type or shape are others, or there is no image.
    """
    if not isinstance(images, Tensor):
        raise InputError(f"images are a {type(images).__name__}; give a tensor (B, C, H, W)")
    if images.layout != torch.strided or images.is_nested or images.is_meta:
        kind = "nested" if images.is_nested else str(images.layout).removeprefix("torch.")
        kind = "on the meta device, without numbers" if images.is_meta else kind
        raise InputError(f"images are {kind}; give an ordinary dense tensor (B, C, H, W)")
    if images.is_floating_point() and images.dtype not in KINDS:
        raise InputError(f"images are {images.dtype}; convert to float32 in [0, 1]")
    if images.is_complex() or not images.is_floating_point():
        cure = "divide by 255" if images.dtype == torch.uint8 else "convert to float32 in [0, 1]"
        raise InputError(f"images are {images.dtype}; {cure}")
    if images.ndim != 4:
        raise InputError(f"images of shape {tuple(images.shape)} are not (B, C, H, W)")
    if images.shape[0] == 0:
        raise InputError("there are no images; give at least one")
    if image_shape is not None and tuple(images.shape[1:]) != image_shape:
        raise InputError(
            f"images of shape {tuple(images.shape[1:])} (C, H, W) but the encoder takes "
            f"{image_shape}; resize, or convert with --input-size"
        )


def _check_pixels(images: Tensor, box: tuple[float, float] | None) -> None:
    low, high = (float(value) for value in images.detach().aminmax())
    within = (-torch.inf, torch.inf) if box is None else box
    if within[0] <= low and high <= within[1] and low > -torch.inf and high < torch.inf:
        return
    if not bool(torch.isfinite(images).all()):
        raise InputError("an image is not finite; leave it out")
    if box != (0.0, 1.0):
        raise InputError(f"an image has pixels outside the box {box}; scale the images")
    cure = "divide by 255" if high > 2.0 else "scale to [0, 1], normalization belongs inside"
    raise InputError(f"images have pixels from {low:g} to {high:g}, not in [0, 1]; {cure}")
