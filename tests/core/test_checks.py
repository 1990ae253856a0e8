"""The one check of images."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robustcl.core.checks import check_form, check_images
from robustcl.core.errors import InputError

SHAPE = (3, 4, 4)


def full(value: float, kind: torch.dtype = torch.float32) -> Tensor:
    return torch.full((2, *SHAPE), value, dtype=kind)


def spoiled(value: float) -> Tensor:
    images = full(0.5)
    images[1, 2, 3, 3] = value
    return images


@pytest.mark.parametrize(
    "images, words",
    [
        (None, "images are a NoneType; give a tensor"),
        (np.zeros((2, *SHAPE)), "images are a ndarray"),
        ([full(0.5)], "images are a list"),
        (full(3, torch.uint8), "images are torch.uint8; divide by 255"),
        (full(0, torch.int64), "images are torch.int64; convert to float32"),
        (full(1, torch.bool), "images are torch.bool"),
        (full(0, torch.complex64), "images are torch.complex64"),
        (full(0.5)[0], "of shape (3, 4, 4) are not (B, C, H, W)"),
        (full(0.5)[:0], "there are no images"),
        (full(0.5)[:, :1], "(1, 4, 4) (C, H, W) but the encoder takes (3, 4, 4)"),
        (full(0.5).permute(0, 2, 3, 1), "(4, 4, 3) (C, H, W) but the encoder takes"),
        (full(200.0), "from 200 to 200, not in [0, 1]; divide by 255"),
        (spoiled(-0.1), "from -0.1 to 0.5, not in [0, 1]; scale"),
        (spoiled(1.0 + 1e-6), "normalization belongs inside"),
        (spoiled(torch.nan), "an image is not finite"),
        (spoiled(torch.inf), "an image is not finite"),
        (spoiled(-torch.inf), "an image is not finite"),
    ],
)
def test_what_would_be_misread_is_refused_in_one_line(images: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        check_images(images, SHAPE)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_good_images_are_returned_themselves(kind: torch.dtype) -> None:
    for value in (0.0, 0.5, 1.0):
        images = full(value, kind)
        assert check_images(images, SHAPE) is images
    assert check_images(images) is images
    wanting = full(0.5).requires_grad_()
    assert check_images(wanting) is wanting


def test_images_of_inference_mode_become_plain() -> None:
    with torch.inference_mode():
        images = full(0.5)
        found = check_images(images, SHAPE)
    assert not found.is_inference() and torch.equal(found, images)


def test_another_box_and_none() -> None:
    images = full(-3.0)
    assert check_images(images, box=None) is images
    assert check_images(images, box=(-4.0, 4.0)) is images
    with pytest.raises(InputError, match="outside the box"):
        check_images(images, box=(-2.0, 2.0))
    for value in (torch.nan, torch.inf, -torch.inf):
        with pytest.raises(InputError, match="not finite"):
            check_images(spoiled(value), box=None)


def test_the_form_alone_asks_for_no_range() -> None:
    check_form(full(200.0), SHAPE)
    check_form(spoiled(torch.nan))
    with pytest.raises(InputError, match="divide by 255"):
        check_form(full(3, torch.uint8), SHAPE)


@pytest.mark.parametrize(
    "images, words",
    [
        (torch.rand(2, *SHAPE).to_sparse(), "sparse"),
        (torch.rand(2, *SHAPE, device="meta"), "on the meta device"),
        (torch.nested.nested_tensor([torch.rand(*SHAPE), torch.rand(*SHAPE)]), "nested"),
        (torch.rand(2, *SHAPE).to(torch.float8_e5m2), "float8"),
    ],
)
def test_images_that_are_no_ordinary_tensors_are_refused(images: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_images(images, SHAPE)
