"""The blur against torchvision's, image by image, and its share and widths in views."""

import pytest
import torch
from torchvision.transforms import functional

from robustcl.core.errors import InputError
from robustcl.data.views import ViewOptions, gaussian_blur, simclr_views


@pytest.mark.parametrize(("channels", "size"), [(1, 3), (3, 5), (3, 7)])
def test_equals_torchvision_per_image(channels: int, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, channels, 12, 9, generator=generator)
    sigma = torch.tensor([0.1, 0.3, 0.7, 1.0, 1.6, 2.0])
    found = gaussian_blur(images, sigma, kernel_size=size)
    for image, width, blurred in zip(images, sigma.tolist(), found, strict=True):
        wanted = functional.gaussian_blur(image, [size, size], [width, width])
        assert torch.allclose(blurred, wanted, atol=1e-6)


def test_happens_with_its_probability_and_range() -> None:
    # A point of light shows each image's own width: its peak falls as sigma grows.
    point = torch.zeros(2000, 1, 9, 9)
    point[:, :, 4, 4] = 1.0
    options = ViewOptions(blur=0.5, blur_sigma=(0.5, 1.0))
    first, _ = simclr_views(point, options=options, generator=torch.Generator().manual_seed(1))
    peaks = first[:, 0, 4, 4]
    same = peaks == 1.0
    assert float(same.float().mean()) == pytest.approx(0.5, abs=0.05)
    low, high = (
        float(gaussian_blur(point[:1], torch.tensor([s]), kernel_size=3)[0, 0, 4, 4])
        for s in (1.0, 0.5)
    )
    blurred = peaks[~same]
    assert low - 1e-6 <= float(blurred.min()) < low + 0.02
    assert high - 0.02 < float(blurred.max()) <= high + 1e-6


@pytest.mark.parametrize("size", [2, 0, 19])
def test_refuses_kernels(size: int) -> None:
    with pytest.raises(InputError, match="kernel_size"):
        gaussian_blur(torch.rand(1, 1, 9, 9), torch.ones(1), kernel_size=size)


def test_refuses_options() -> None:
    with pytest.raises(InputError, match="blur_sigma"):
        ViewOptions(blur_sigma=(0.0, 1.0))
