"""State how views are drawn, and how that changes over epochs."""

import math
from dataclasses import dataclass, replace

from robustcl.core.errors import InputError


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


WEAK_SHIFT = 0.125  # 4 of 32 pixels


def anneal_views(options: ViewOptions, strength: float) -> ViewOptions:
    """Scale probabilities and ranges of the views; flips stay.

    Args:
        options: The views at strength 1.
        strength: In [0, 1]; at 0 nothing but flips is left.

    Returns:
        The weaker views.

    Raises:
        InputError: When the strength is outside [0, 1].

    Reference:
        Luo et al., Rethinking the Effect of Data Augmentation in Adversarial Contrastive Learning,
        ICLR 2023, section 4.1.
    """
    if not 0.0 <= strength <= 1.0:
        raise InputError(f"augmentation strength {strength} is not in [0, 1]; use 1 for all of it")
    if strength == 1.0:
        return options
    (smallest, largest), (nearest, farthest) = options.crop_scale, options.zoom
    scaled = {
        name: strength * getattr(options, name)
        for name in ("rotation", "shift", "jitter", "brightness", "contrast", "saturation", "hue",
                     "gray", "blur", "noise")
    }  # fmt: skip
    return replace(
        options,
        crop_scale=(1.0 - strength * (1.0 - smallest), 1.0 - strength * (1.0 - largest)),
        zoom=(1.0 - strength * (1.0 - nearest), 1.0 - strength * (1.0 - farthest)),
        **scaled,
    )


def weak_views(options: ViewOptions) -> ViewOptions:
    """Return the views of supervised training: flips where they are in use, and small shifts.

    Args:
        options: The strong views; only their flips count.

    Returns:
        The weak views.
    """
    return ViewOptions(flip=options.flip, shift=WEAK_SHIFT)
