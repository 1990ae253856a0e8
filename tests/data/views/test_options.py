"""Weaker views: all of it at 1, nothing but flips at 0, monotone in between."""

import pytest
import torch

from robustcl.core.errors import InputError
from robustcl.data.views import (
    COLOR_VIEWS,
    DIGIT_VIEWS,
    ViewOptions,
    anneal_views,
    simclr_views,
    weak_views,
)

ALL = ViewOptions(
    crop_scale=(0.2, 0.9), flip=0.5, rotation=30.0, shift=0.2, zoom=(0.8, 1.3), jitter=0.8,
    brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, gray=0.2, blur=0.5, noise=0.1,
)  # fmt: skip


def images() -> torch.Tensor:
    coarse = torch.rand(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=16, mode="bilinear")


@pytest.mark.parametrize("options", [ALL, COLOR_VIEWS, DIGIT_VIEWS])
def test_both_ends(options: ViewOptions) -> None:
    assert anneal_views(options, 1.0) == options
    assert anneal_views(options, 0.0) == ViewOptions(flip=options.flip)


def test_at_strength_0_a_view_is_the_image_or_its_mirror() -> None:
    pictures = images()
    view, _ = simclr_views(
        pictures, options=anneal_views(ALL, 0.0), generator=torch.Generator().manual_seed(0)
    )
    same = (view == pictures).flatten(1).all(dim=1)
    mirrored = (view == pictures.flip(3)).flatten(1).all(dim=1)
    assert bool((same | mirrored).all()) and 0 < int(same.sum()) < 64


def test_views_move_further_from_the_image_with_strength() -> None:
    options = ViewOptions(**{**vars(ALL), "flip": 0.0})
    drift = []
    for strength in (0.0, 0.2, 0.6, 1.0):
        generator = torch.Generator().manual_seed(0)
        view, _ = simclr_views(
            images(), options=anneal_views(options, strength), generator=generator
        )
        drift.append(float((view - images()).square().mean()))
    assert drift[0] == 0.0 and drift == sorted(drift) and drift[1] < 0.5 * drift[3]


def test_weak_views_shift_and_keep_flips() -> None:
    assert weak_views(COLOR_VIEWS).flip == 0.5 and weak_views(DIGIT_VIEWS).flip == 0.0
    assert weak_views(COLOR_VIEWS).shift == 4 / 32 and weak_views(COLOR_VIEWS).jitter == 0.0


def test_refuses_a_strength_beyond_1() -> None:
    with pytest.raises(InputError, match=r"strength 1\.5"):
        anneal_views(ALL, 1.5)
