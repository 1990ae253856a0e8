"""Linear views equal what they are named after, and are drawn the same way every time."""

import pytest
import torch

from robustcl.core.errors import InputError
from robustcl.data.views.simclr import resized_crop
from robustcl.models.inference_views import (
    LinearView,
    crop_views,
    draw_views,
    noise_views,
    resized,
    shift_views,
    shifted,
)

IMAGES = torch.rand(3, 2, 7, 9, generator=torch.Generator().manual_seed(0))


def test_shifts_fill_up_with_zeros() -> None:
    down, right = LinearView(rows=shifted(7, 2)), LinearView(columns=shifted(9, 3))
    assert torch.equal(down(IMAGES)[:, :, 2:], IMAGES[:, :, :5])
    assert (down(IMAGES)[:, :, :2] == 0).all()
    assert torch.equal(right(IMAGES)[..., 3:], IMAGES[..., :6])
    back = LinearView(rows=shifted(7, -2))
    assert torch.equal(back(IMAGES)[:, :, :5], IMAGES[:, :, 2:])
    mirrored = LinearView(columns=shifted(9, 1, flipped=True))
    assert torch.equal(mirrored(IMAGES)[..., 1:], IMAGES.flip(3)[..., :8])


@pytest.mark.parametrize("box", [(0, 0, 7, 9), (1, 2, 5, 4), (6, 8, 1, 1), (2, 0, 3, 9)])
def test_crops_equal_the_training_crop(box: tuple[int, int, int, int]) -> None:
    top, left, height, width = box
    view = LinearView(resized(7, top, height), resized(9, left, width))
    parts = [torch.full((3,), float(part)) for part in box]
    torch.testing.assert_close(view(IMAGES), resized_crop(IMAGES, *parts), atol=2e-6, rtol=0)
    flipped = LinearView(resized(7, top, height), resized(9, left, width, flipped=True))
    torch.testing.assert_close(flipped(IMAGES), view(IMAGES.flip(3)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("text", ["shift", "shift:pixels=1,flip=false", "crop", "noise:sigma=.1"])
def test_fewer_views_are_the_first_of_more_and_seeds_matter(text: str) -> None:
    few = draw_views(text, 4, image_shape=(2, 7, 9), seed=3)
    many = draw_views(text, 8, image_shape=(2, 7, 9), seed=3)
    other = draw_views(text, 8, image_shape=(2, 7, 9), seed=4)
    seen = [torch.stack([view(IMAGES) for view in views]) for views in (few, many, other)]
    assert torch.equal(seen[0], seen[1][:4])
    assert not torch.equal(seen[1], seen[2])
    different = len({tuple(view.flatten().tolist()) for view in seen[1]})
    assert different == 8 or (text == "crop" and different >= 6)  # boxes of small images coincide
    if not text.startswith("noise"):
        assert torch.equal(seen[0][0], IMAGES)


def test_shifts_are_all_different_and_few() -> None:
    views = shift_views(18, image_shape=(2, 7, 9), pixels=1)
    assert torch.equal(views[1](IMAGES), IMAGES.flip(3))
    assert len({tuple(view(IMAGES).flatten().tolist()) for view in views}) == 18
    with pytest.raises(InputError, match="only 18"):
        shift_views(19, image_shape=(2, 7, 9), pixels=1)


def test_noise_is_gaussian_and_the_same_for_every_image() -> None:
    views = noise_views(400, image_shape=(2, 7, 9), sigma=0.3)
    offsets = torch.stack([view(IMAGES) - IMAGES for view in views])
    assert torch.allclose(offsets[:, 0], offsets[:, 1], atol=1e-6)
    assert float(offsets[:, 0].std()) == pytest.approx(0.3, rel=0.02)
    assert abs(float(offsets[:, 0].mean())) < 0.01


def test_refuses() -> None:
    with pytest.raises(InputError, match="size"):
        LinearView(rows=torch.ones(3, 7))
    with pytest.raises(InputError, match="0 views"):
        draw_views("shift", 0, image_shape=(2, 7, 9))
    with pytest.raises(InputError, match="no option"):
        draw_views("crop:sigma=1", 2, image_shape=(2, 7, 9))
    with pytest.raises(InputError, match="unknown family"):
        draw_views("rotation", 2, image_shape=(2, 7, 9))
    with pytest.raises(InputError, match="not known"):
        draw_views("training", 2, image_shape=(2, 7, 9))
    with pytest.raises(InputError, match="leaves nothing"):
        shift_views(2, image_shape=(2, 7, 9), pixels=7)
    with pytest.raises(InputError):
        crop_views(2, image_shape=(2, 7, 9), scale=0.0)
    with pytest.raises(InputError):
        noise_views(2, image_shape=(2, 7, 9), sigma=0.0)
