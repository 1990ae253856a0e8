"""Draw the fixed views of multi-view inference, one family each."""

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import nn

from robustcl.core.errors import InputError
from robustcl.core.seeds import example_noise, example_seed
from robustcl.core.specification import Specification, check_options, choose, parse_specification
from robustcl.views.linear_view import LinearView, resized, shifted
from robustcl.views.simclr_views import random_boxes
from robustcl.views.training_view import TrainingView
from robustcl.views.view_options import ViewOptions

Shape = Sequence[int]
MOST = 1024


def shift_views(
    count: int, *, image_shape: Shape, seed: int = 0, pixels: int = 2, flip: bool = True
) -> list[nn.Module]:
    """Draw flips and shifts, each once; zeros come in at the edge.

    Args:
        count: Views; the first is the image itself, the second its mirror image if there are flips.
        image_shape: (C, H, W).
        seed: Seed of the order in which the others come.
        pixels: Largest shift along either axis.
        flip: Whether there are horizontal flips.

    Returns:
        The views; fewer views are the first of more.

    Raises:
        InputError: When there are not as many, or a shift leaves nothing of the image.
    """
    _, height, width = image_shape
    if not 0 <= pixels < min(height, width):
        raise InputError(f"pixels {pixels} leaves nothing of images of {width}x{height}")
    steps = range(-pixels, pixels + 1)
    moves = [move for move in product(steps, steps, (False, True)[: 1 + flip]) if any(move)]
    generator = torch.Generator().manual_seed(example_seed(seed, 0, "shift views"))
    order = torch.randperm(len(moves), generator=generator).tolist()
    first = [(0, 0, True)] if flip else []
    moves = [(0, 0, False), *first, *(moves[k] for k in order if moves[k] not in first)]
    if count > len(moves):
        raise InputError(f"there are only {len(moves)} flips and shifts, not {count}; raise pixels")
    return [
        LinearView(
            shifted(height, down) if down else None,
            shifted(width, right, flipped=mirrored) if right or mirrored else None,
        )
        for down, right, mirrored in moves[:count]
    ]


def crop_views(
    count: int, *, image_shape: Shape, seed: int = 0, scale: float = 0.6, flip: bool = True
) -> list[nn.Module]:
    """Draw resized crops as SimCLR does, with fixed boxes.

    Args:
        count: Views; the first is the image itself.
        image_shape: (C, H, W).
        seed: Seed of the boxes.
        scale: Least share of the area, in (0, 1].
        flip: Whether half of them are mirrored.

    Returns:
        The views; fewer views are the first of more.
    """
    _, height, width = image_shape
    options = ViewOptions(crop_scale=(scale, 1.0))
    blank = torch.zeros(1, *image_shape)
    views: list[nn.Module] = [LinearView()]
    for number in range(1, count):
        generator = torch.Generator().manual_seed(example_seed(seed, number, "crop views"))
        boxes = random_boxes(blank, options, generator)
        top, left, rows, columns = (int(part) for part in boxes)
        mirrored = flip and float(torch.rand((), generator=generator)) < 0.5
        views.append(
            LinearView(resized(height, top, rows), resized(width, left, columns, flipped=mirrored))
        )
    return views


def noise_views(
    count: int, *, image_shape: Shape, seed: int = 0, sigma: float = 0.25
) -> list[nn.Module]:
    """Draw fixed patterns of Gaussian noise, the same for all images, not clipped to [0, 1].

    The model with fresh noise at every call is the smoothed model that `smoothing` certifies; with
    fixed patterns it is a deterministic one, which an attacker can know.

    Args:
        count: Views, all of them noisy.
        image_shape: (C, H, W).
        seed: Seed of the noise.
        sigma: Standard deviation in pixel units.

    Returns:
        The views; fewer views are the first of more.

    Raises:
        InputError: When sigma is not positive.
    """
    if not 0 < sigma < math.inf:
        raise InputError(f"sigma {sigma} is not positive and finite; try 0.25")
    seeds = [example_seed(seed, number, "noise views") for number in range(count)]
    return [LinearView(offset=sigma * noise) for noise in example_noise(seeds, image_shape)]


def training_views(
    count: int, *, options: ViewOptions, image_shape: Shape, seed: int = 0
) -> list[nn.Module]:
    """Draw the views that the encoder was trained on, with fixed parameters.

    Args:
        count: Views; the first is the image itself.
        options: How they were drawn.
        image_shape: (C, H, W); not needed, as for all families.
        seed: Seed of the draws.

    Returns:
        The views; fewer views are the first of more.
    """
    del image_shape
    seeds = [example_seed(seed, number, "training views") for number in range(1, count)]
    return [LinearView(), *(TrainingView(options, own) for own in seeds)]


FAMILIES: dict[str, Callable[..., list[nn.Module]]] = {
    "shift": shift_views,
    "crop": crop_views,
    "noise": noise_views,
    "training": training_views,
}
SUPPLIED = ("image_shape", "seed", "options")


def parse_views(text: str) -> Specification:
    """Read a family such as 'shift:pixels=2,flip=false' or 'noise:sigma=0.25'.

    A name that is unknown, or an option that the family does not take, is refused.

    Args:
        text: NAME or NAME:key=value,key=value.

    Returns:
        The specification.
    """
    specification = parse_specification(text)
    family = FAMILIES[choose(specification.name, FAMILIES, what="family of views")]
    check_options(specification, family, exclude=SUPPLIED)
    return specification


def draw_views(
    text: str,
    count: int,
    *,
    image_shape: Shape,
    seed: int = 0,
    training: ViewOptions | None = None,
) -> list[nn.Module]:
    """Draw fixed views of a family.

    All images get the same views, so that what an image gets depends on the seed alone, not on its
    place or on the batch size. Fewer views are the first of more.

    Args:
        text: shift, crop, noise or training, with options.
        count: Number of views.
        image_shape: (C, H, W).
        seed: Seed of the draws.
        training: How the encoder's training views were drawn, for 'training'.

    Returns:
        The views.

    Raises:
        InputError: When there are no views, too many, or the family is unknown or not known of
            the encoder.
    """
    specification = parse_views(text)
    if not 1 <= count <= MOST:
        raise InputError(f"{count} views; use 1 to {MOST}")
    options = dict(specification.options)
    if specification.name == "training":
        if training is None:
            raise InputError(
                "it is not known how the encoder's views were drawn; use shift or crop"
            )
        return training_views(count, options=training, image_shape=image_shape, seed=seed)
    return FAMILIES[specification.name](count, image_shape=image_shape, seed=seed, **options)
