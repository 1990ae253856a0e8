"""Weaken the augmentation without changing its kind."""

from dataclasses import replace

from robustcl.core.errors import InputError
from robustcl.views.view_options import ViewOptions

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
