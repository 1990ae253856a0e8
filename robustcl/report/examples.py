"""Draw images, their smallest verified perturbation, and the difference."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

_GAP = 0.12


def example_images(
    ax: Axes,
    *,
    clean: Sequence[np.ndarray],
    attacked: Sequence[np.ndarray],
    difference: Sequence[np.ndarray],
    captions: Sequence[str],
) -> None:
    """Draw one column per image: clean above, perturbed, difference below.

    Args:
        ax: Where to draw; its axes are hidden.
        clean: Images (H, W) or (H, W, 3) in [0, 1].
        attacked: The same, perturbed.
        difference: The same, with 0.5 for no change.
        captions: A line or two per column.
    """
    rows = (("clean", clean), ("perturbed", attacked), ("difference\n(scaled)", difference))
    height = clean[0].shape[0] / clean[0].shape[1] if len(clean) else 1.0
    for row, (name, pictures) in enumerate(rows):
        top = -row * (height + _GAP)
        ax.text(-0.1, top - height / 2, name, ha="right", va="center", fontsize=8, color="0.35")
        for column, picture in enumerate(pictures):
            left = column * (1 + _GAP)
            ax.imshow(
                picture, extent=(left, left + 1, top - height, top), vmin=0, vmax=1, cmap="gray",
                interpolation="nearest",
            )  # fmt: skip
    for column, caption in enumerate(captions):
        ax.text(
            column * (1 + _GAP) + 0.5, 0.08, caption, ha="center", va="bottom", fontsize=7,
            linespacing=1.4,
        )  # fmt: skip
    ax.set_xlim(-0.1, len(clean) * (1 + _GAP) - _GAP)
    ax.set_ylim(-3 * (height + _GAP) + _GAP, 0.05)
    ax.set_aspect("equal")
    ax.set_axis_off()
