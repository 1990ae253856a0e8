"""Draw the two views of SimCLR."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.errors import InputError
from robustcl.data.views.colors import color_jitter, gaussian_blur, gray
from robustcl.data.views.draws import Draws
from robustcl.data.views.options import ViewOptions


def simclr_views(
    images: Tensor, *, options: ViewOptions, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw two independent views of each image, with parameters of its own per image.

    Args:
        images: (B, C, H, W) uint8 in 0..255 or floating in [0, 1]; C is 1 or 3.
        options: Which operations, and how strong.
        generator: Source of all randomness, on the device of the images.

    Returns:
        Two float32 tensors (B, C, H, W) in [0, 1].

    Raises:
        InputError: When the images have a wrong shape or type.

    Reference:
        Chen et al., A Simple Framework for Contrastive Learning of Visual Representations,
        ICML 2020, section 3 and appendix A.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(f"views need images (B, C, H, W), C = 1 or 3, not {tuple(images.shape)}")
    if images.dtype == torch.uint8:
        images = images.float().div_(255.0)
    elif not images.is_floating_point():
        raise InputError(f"views need uint8 or floating images, not {images.dtype}")
    doubled = torch.cat([images.float()] * 2)
    views = drawn_views(Draws(doubled, generator), options)
    return views[: len(images)], views[len(images) :]


def drawn_views(draws: Draws, options: ViewOptions) -> Tensor:
    """Draw one view of each image of a batch.

    Args:
        draws: The images, (B, C, H, W) floating in [0, 1], and the source of randomness.
        options: Which operations, and how strong.

    Returns:
        (B, C, H, W) in [0, 1], differentiable almost everywhere in the images.
    """
    return _colors(_geometry(draws, options), draws, options)


def _geometry(draws: Draws, options: ViewOptions) -> Tensor:
    images, rows = draws.images, draws.rows
    if options.padding:
        images = padded_crop(draws, options.padding)
    if options.crop_scale != (1.0, 1.0):
        boxes = random_boxes(images[:rows], options, draws.generator)
        images = resized_crop(images, *(draws.expanded(part) for part in boxes))
    if options.rotation or options.shift or options.zoom != (1.0, 1.0):
        angle = draws.uniform(-1.0, 1.0) * math.radians(options.rotation)
        zoom = draws.uniform(*options.zoom)
        moves = (2.0 * draws.uniform(0.0, 1.0, 2) - 1.0) * (2.0 * options.shift)
        cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        affine = torch.stack([cos, -sin, moves[:, 0], sin, cos, moves[:, 1]], dim=1).view(-1, 2, 3)
        grid = functional.affine_grid(affine, list(images.shape), align_corners=False).to(images)
        images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if options.flip:
        flipped = draws.uniform(0.0, 1.0) < options.flip
        images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
    return images


def padded_crop(draws: Draws, padding: int) -> Tensor:
    """Shift every image by whole pixels of its own, and reflect what comes in at the border.

    Args:
        draws: The images, (B, C, H, W), and the source of randomness.
        padding: Largest shift along each axis, below H and W.

    Returns:
        (B, C, H, W).
    """
    images, device = draws.images, draws.generator.device
    count, channels, height, width = images.shape
    wide = functional.pad(images, (padding,) * 4, mode="reflect")
    drawn = torch.rand(2, draws.rows, 1, generator=draws.generator, device=device)
    corners = (drawn * (2 * padding + 1)).long().clamp_max(2 * padding)
    top, left = (draws.expanded(part) for part in corners)
    lines = top + torch.arange(height, device=images.device)
    columns = left + torch.arange(width, device=images.device)
    picture = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return wide[picture, channel, lines[:, None, :, None], columns[:, None, None, :]]


def random_boxes(
    images: Tensor, options: ViewOptions, generator: torch.Generator, *, tries: int = 10
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw crop boxes in whole pixels as torchvision does: ten tries, then the whole image.

    Args:
        images: (B, C, H, W); only the shape counts.
        options: `crop_scale` and `crop_ratio` count.
        generator: Source of randomness.
        tries: Draws per image, of which the first that fits is taken.

    Returns:
        top, left, height and width, (B,) each, as float32 whole numbers. Where no draw fits, the
        largest box of an allowed ratio, in the center.

    Reference:
        torchvision.transforms.RandomResizedCrop.get_params.
    """
    rows, (full_height, full_width) = len(images), images.shape[2:]
    flat = Draws(images[:1].expand(rows * tries, *images.shape[1:]), generator)
    area = full_height * full_width * flat.uniform(*options.crop_scale)
    low, high = (math.log(ratio) for ratio in options.crop_ratio)
    ratio = torch.exp(flat.uniform(low, high))
    width = torch.round(torch.sqrt(area * ratio)).view(rows, tries)
    height = torch.round(torch.sqrt(area / ratio)).view(rows, tries)
    fits = (width >= 1) & (width <= full_width) & (height >= 1) & (height <= full_height)
    first = fits.int().argmax(dim=1, keepdim=True)
    found = fits.any(dim=1)
    ratio_kept = min(max(full_width / full_height, options.crop_ratio[0]), options.crop_ratio[1])
    widest = float(min(full_width, round(full_height * ratio_kept)))
    highest = float(min(full_height, round(full_width / ratio_kept)))
    width = torch.where(
        found, width.gather(1, first)[:, 0], torch.full_like(found, 1.0, dtype=width.dtype) * widest
    )
    height = torch.where(found, height.gather(1, first)[:, 0], torch.full_like(width, highest))
    each = Draws(images, generator)
    top = torch.floor(each.uniform(0.0, 1.0) * (full_height - height + 1))
    left = torch.floor(each.uniform(0.0, 1.0) * (full_width - width + 1))
    top = torch.where(
        found, top.clamp(max=full_height - 1), torch.floor((full_height - height) / 2)
    )
    left = torch.where(found, left.clamp(max=full_width - 1), torch.floor((full_width - width) / 2))
    return top, left, height, width


def resized_crop(
    images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor
) -> Tensor:
    """Cut a box of its own out of each image and resize it bilinearly to the full size.

    Sampling stops at the edge of the box, so the result equals cropping first, then resizing.

    Args:
        images: (B, C, H, W).
        top: (B,) first row of the box, in whole pixels.
        left: (B,) first column.
        height: (B,) rows of the box.
        width: (B,) columns of the box.

    Returns:
        (B, C, H, W).
    """
    rows_y = _axis(images.shape[2], top, height)
    columns_x = _axis(images.shape[3], left, width)
    shape = (len(images), images.shape[2], images.shape[3])
    grid = torch.stack([columns_x[:, None, :].expand(shape), rows_y[:, :, None].expand(shape)], 3)
    grid = grid.to(images)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _axis(full: int, start: Tensor, length: Tensor) -> Tensor:
    """Return the (B, full) sampling positions along one axis, in grid_sample's -1..1."""
    steps = (torch.arange(full, device=start.device) + 0.5) / full
    pixel = steps[None, :] * length[:, None] - 0.5
    pixel = torch.minimum(pixel.clamp(min=0.0), length[:, None] - 1.0) + start[:, None]
    return (2.0 * pixel + 1.0) / full - 1.0


def _colors(images: Tensor, draws: Draws, options: ViewOptions) -> Tensor:
    changes = (options.brightness, options.contrast, options.saturation, options.hue)
    if options.jitter and any(changes):
        draw = draws.uniform(0.0, 1.0, 4)
        ranges = [(max(1.0 - change, 0.0), 1.0 + change) for change in changes[:3]] + [
            (-options.hue, options.hue)
        ]
        low = torch.tensor([a for a, _ in ranges], device=draw.device)
        high = torch.tensor([b for _, b in ranges], device=draw.device)
        order = draws.uniform(0.0, 1.0, 4).argsort(dim=1)
        skipped = draws.uniform(0.0, 1.0) >= options.jitter
        order = torch.where(skipped[:, None], torch.full_like(order, -1), order)
        images = color_jitter(images, draw * (high - low) + low, order)
    if options.gray and images.shape[1] == 3:
        chosen = draws.uniform(0.0, 1.0) < options.gray
        images = torch.where(chosen.view(-1, 1, 1, 1), gray(images).expand_as(images), images)
    if options.blur:
        images = _blurred(images, draws, options)
    if options.noise:
        images = images + options.noise * draws.normal()
    return images.clamp(0.0, 1.0)


def _blurred(images: Tensor, draws: Draws, options: ViewOptions) -> Tensor:
    sigma = draws.uniform(*options.blur_sigma)
    chosen = torch.nonzero(draws.uniform(0.0, 1.0) < options.blur)[:, 0]
    if not len(chosen):
        return images
    size = max(round(0.1 * min(images.shape[2:])), 3) // 2 * 2 + 1
    images = images.clone()
    images[chosen] = gaussian_blur(images[chosen], sigma[chosen], kernel_size=size)
    return images
