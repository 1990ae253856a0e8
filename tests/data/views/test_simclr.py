"""Views against torchvision's operations, image by image."""

import dataclasses

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from robustcl.core.errors import InputError
from robustcl.data.views import (
    COLOR_VIEWS,
    DIGIT_VIEWS,
    GRAY_VIEWS,
    ViewOptions,
    color_jitter,
    default_views,
    simclr_views,
)
from robustcl.data.views.simclr import random_boxes, resized_crop


def images(count: int = 8, channels: int = 3, size: int = 16) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_resized_crop_equals_torchvision_per_image() -> None:
    batch = images(16)
    boxes = random_boxes(batch, COLOR_VIEWS, torch.Generator().manual_seed(1))
    ours = resized_crop(batch, *boxes)
    for row, image in enumerate(batch):
        top, left, height, width = (int(side[row]) for side in boxes)
        theirs = reference.resized_crop(image, top, left, height, width, [16, 16], antialias=False)
        assert torch.allclose(ours[row], theirs, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (1, 3, 12, 24), (1, 1, 40, 8)])
def test_boxes_lie_inside(shape: tuple[int, ...]) -> None:
    batch = torch.zeros(shape).expand(2000, -1, -1, -1)
    top, left, height, width = random_boxes(batch, COLOR_VIEWS, torch.Generator().manual_seed(2))
    assert (torch.stack([top, left, height - 1, width - 1]) >= 0).all()
    assert (top + height <= shape[2]).all() and (left + width <= shape[3]).all()


def test_boxes_are_distributed_as_torchvisions() -> None:
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image, count = torch.zeros(3, 32, 32), 4000
    draws = [
        RandomResizedCrop.get_params(image, list(COLOR_VIEWS.crop_scale), [3 / 4, 4 / 3])
        for _ in range(count)
    ]
    theirs = torch.tensor(draws, dtype=torch.float64)
    boxes = random_boxes(
        image.expand(count, -1, -1, -1), COLOR_VIEWS, torch.Generator().manual_seed(3)
    )
    ours = torch.stack(boxes, dim=1).double()
    for side in range(4):
        both = torch.cat([ours[:, side], theirs[:, side]]).unique()
        steps = [
            (sample[:, side][None] <= both[:, None]).double().mean(1) for sample in (ours, theirs)
        ]
        # 1.95 sqrt(2/n) is the two-sample Kolmogorov-Smirnov bound at 0.1 %.
        assert float((steps[0] - steps[1]).abs().max()) < 1.95 * (2 / count) ** 0.5


def test_color_jitter_equals_torchvision_per_image() -> None:
    batch = images(12)
    generator = torch.Generator().manual_seed(4)
    factors = 0.6 + 0.8 * torch.rand(12, 4, generator=generator)
    factors[:, 3] = torch.linspace(-0.5, 0.5, 12)
    order = torch.rand(12, 4, generator=generator).argsort(dim=1)
    operations = (
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
        reference.adjust_hue,
    )
    ours = color_jitter(batch, factors, order)
    for row in range(12):
        theirs = batch[row]
        for number in order[row].tolist():
            theirs = operations[number](theirs, float(factors[row, number]))
        assert torch.allclose(ours[row], theirs, atol=2e-4)


def test_color_jitter_keeps_gray_pixels_gray_and_its_input() -> None:
    batch = images(4, channels=1).expand(-1, 3, -1, -1).contiguous()
    before = batch.clone()
    order = torch.arange(4).expand(4, 4)
    out = color_jitter(batch, torch.tensor([[1.2, 0.8, 1.5, 0.3]]).expand(4, 4), order)
    assert torch.equal(batch, before)
    assert torch.allclose(out[:, 0], out[:, 1], atol=1e-5)


@pytest.mark.parametrize("options", [COLOR_VIEWS, DIGIT_VIEWS, GRAY_VIEWS])
@pytest.mark.parametrize("channels", [1, 3])
def test_views_stay_in_range_differ_and_repeat(options: ViewOptions, channels: int) -> None:
    batch = images(6, channels=channels)
    first, second = simclr_views(batch, options=options, generator=torch.Generator().manual_seed(5))
    again, _ = simclr_views(batch, options=options, generator=torch.Generator().manual_seed(5))
    assert first.shape == second.shape == batch.shape
    assert first.min() >= 0.0 and first.max() <= 1.0
    assert not torch.allclose(first, second)
    assert torch.equal(first, again)


def test_parameters_differ_between_copies_of_one_image() -> None:
    batch = images(1).expand(32, -1, -1, -1)
    first, _ = simclr_views(batch, options=COLOR_VIEWS, generator=torch.Generator().manual_seed(6))
    assert len(torch.unique(first.flatten(1), dim=0)) == 32


def test_no_operation_returns_the_images_also_from_uint8() -> None:
    batch = (images(3) * 255).to(torch.uint8)
    first, second = simclr_views(batch, options=ViewOptions(), generator=torch.Generator())
    assert torch.equal(first, batch.float() / 255.0) and torch.equal(first, second)


def test_flip_happens_half_the_time() -> None:
    batch = images(1).expand(2000, -1, -1, -1)
    generator = torch.Generator().manual_seed(7)
    first, _ = simclr_views(batch, options=ViewOptions(flip=0.5), generator=generator)
    flipped = (first == batch.flip(3)).flatten(1).all(1).double().mean()
    assert abs(float(flipped) - 0.5) < 0.05


def test_shift_moves_by_at_most_its_share() -> None:
    dot = torch.zeros(500, 1, 21, 21)
    dot[:, :, 10, 10] = 1.0
    generator = torch.Generator().manual_seed(8)
    first, _ = simclr_views(dot, options=ViewOptions(shift=0.2), generator=generator)
    rows = (first.sum(dim=(1, 3)) * torch.arange(21.0)).sum(1) / first.sum(dim=(1, 2, 3))
    assert float((rows - 10.0).abs().max()) <= 0.2 * 21 + 1e-3
    assert float((rows - 10.0).abs().max()) > 0.2 * 21 - 0.3


def test_digits_are_not_flipped_by_default() -> None:
    assert default_views("digits/train", (1, 8, 8)) == DIGIT_VIEWS and DIGIT_VIEWS.flip == 0.0
    assert default_views("cifar10/train", (3, 32, 32)) == COLOR_VIEWS
    assert default_views("fashion-mnist/train", (1, 28, 28)) == GRAY_VIEWS


@pytest.mark.parametrize(
    "change", [{"crop_scale": (0.0, 1.0)}, {"flip": 1.5}, {"noise": -1.0}, {"hue": 0.6}]
)
def test_refuses_options(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        dataclasses.replace(COLOR_VIEWS, **change)  # pyright: ignore[reportArgumentType]


def test_refuses_images() -> None:
    with pytest.raises(InputError, match="C = 1 or 3"):
        simclr_views(torch.zeros(2, 4, 8, 8), options=COLOR_VIEWS, generator=torch.Generator())
    with pytest.raises(InputError, match="int64"):
        simclr_views(
            torch.zeros(2, 3, 8, 8, dtype=torch.long),
            options=COLOR_VIEWS,
            generator=torch.Generator(),
        )


def test_padded_crops_are_windows_of_the_reflected_image() -> None:
    images = torch.rand(64, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    views, _ = simclr_views(
        images, options=ViewOptions(padding=2), generator=torch.Generator().manual_seed(1)
    )
    wide = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="reflect")
    seen = set()
    for image, view in zip(wide, views, strict=True):
        places = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.equal(image[:, top : top + 6, left : left + 5], view)
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 15  # of 25 shifts, each image has its own


def test_negative_padding_is_refused() -> None:
    with pytest.raises(InputError, match="padding -1"):
        ViewOptions(padding=-1)
