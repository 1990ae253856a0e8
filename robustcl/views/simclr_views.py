"""Draw the two views of SimCLR."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.errors import InputError
from robustcl.views.color_jitter import color_jitter, gray
from robustcl.views.draws import Draws
from robustcl.views.gaussian_blur import gaussian_blur


@dataclass(frozen=True)
class ViewOptions:
    """State how a view is drawn; an operation whose range is empty is skipped.

    Args:
        padding: Pixels of reflection around the image, out of which a window of its size is cut.
        crop_scale: Range of the crop's share of the area; (1, 1) for no crop.
        crop_ratio: Range of the crop's aspect ratio, drawn uniformly in its logarithm.
        flip: Probability of a horizontal flip.
        rotation: Largest rotation, in degrees.
        shift: Largest shift, as a share of the side.
        zoom: Range of the magnification, drawn uniformly; (1, 1) for none.
        jitter: Probability of the color jitter.
        brightness: Largest change of the brightness factor from 1.
        contrast: Largest change of the contrast factor from 1.
        saturation: Largest change of the saturation factor from 1.
        hue: Largest hue shift, in turns (at most 0.5).
        gray: Probability of turning gray.
        blur: Probability of a Gaussian blur, whose kernel is a tenth of the side, 3 pixels at
            least.
        blur_sigma: Range of its standard deviation, in pixels.
        noise: Standard deviation of the Gaussian pixel noise.
    """

    padding: int = 0
    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (3.0 / 4.0, 4.0 / 3.0)
    flip: float = 0.0
    rotation: float = 0.0
    shift: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise InputError(f"padding {self.padding} is negative; use 0 for none")
        low, high = self.crop_scale
        if not 0.0 < low <= high <= 1.0:
            raise InputError(f"crop_scale {self.crop_scale} is not a range in (0, 1]")
        if not 0.0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise InputError(f"crop_ratio {self.crop_ratio} is not a range of positive numbers")
        if not 0.0 < self.zoom[0] <= self.zoom[1]:
            raise InputError(f"zoom {self.zoom} is not a range of positive numbers")
        if not 0.0 <= self.hue <= 0.5:
            raise InputError(f"hue {self.hue} is not in [0, 0.5] turns")
        if not 0.0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise InputError(f"blur_sigma {self.blur_sigma} is not a range of positive numbers")
        for name in ("flip", "jitter", "gray", "blur"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} {getattr(self, name)} is not a probability in [0, 1]")
        for name in ("rotation", "shift", "brightness", "contrast", "saturation", "noise"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} {getattr(self, name)} is negative or infinite")


DIGIT_VIEWS = ViewOptions(
    rotation=10.0, shift=0.1, zoom=(0.9, 1.1), jitter=0.5, brightness=0.2, contrast=0.2, noise=0.05
)
GRAY_VIEWS = ViewOptions(crop_scale=(0.4, 1.0), jitter=0.8, brightness=0.4, contrast=0.4)
COLOR_VIEWS = ViewOptions(
    crop_scale=(0.2, 1.0),
    flip=0.5,
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    gray=0.1,
)


def default_views(name: str, image_shape: tuple[int, int, int]) -> ViewOptions:
    """Choose view options by data set: characters are not flipped and move only a little.

    Args:
        name: The data set's name; what stands before the first '/' counts.
        image_shape: (C, H, W).

    Returns:
        `DIGIT_VIEWS` for digits, mnist and svhn, `GRAY_VIEWS` for other gray images, else
        `COLOR_VIEWS`.
    """
    if name.split("/")[0] in ("digits", "mnist", "svhn"):
        return DIGIT_VIEWS
    return GRAY_VIEWS if image_shape[0] == 1 else COLOR_VIEWS


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
