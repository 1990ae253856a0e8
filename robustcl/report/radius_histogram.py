"""Draw how certified radii are spread, method by method."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes


def radius_histogram(
    ax: Axes, *, radii: Mapping[str, np.ndarray], bins: np.ndarray, radius_label: str
) -> None:
    """Draw one outlined histogram per method.

    Args:
        ax: Where to draw.
        radii: (N,) finite radii by label; wrong and undecided images are 0.
        bins: Edges shared by all methods.
        radius_label: Label of the radius with norm and units.
    """
    for number, (label, values) in enumerate(radii.items()):
        color = ("C0", "C2", "C4", "C5", "C9", "C1")[number % 6]
        ax.hist(values, bins=list(bins), color=color, alpha=0.25, linewidth=0)
        ax.hist(values, bins=list(bins), color=color, histtype="step", linewidth=1.3, label=label)
    ax.set_xlim(bins[0], bins[-1])
    ax.set_xlabel(radius_label)
    ax.set_ylabel("images")
    ax.legend(loc="upper right")
