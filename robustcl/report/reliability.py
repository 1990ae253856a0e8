"""Draw how often predictions come true at each confidence."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

Rows = Sequence[Sequence[float]]


def reliability(ax: Axes, *, models: Mapping[str, Rows]) -> None:
    """Draw a reliability diagram: on the diagonal confidence is the share that is right.

    Args:
        ax: Where to draw.
        models: By label, rows of mean confidence, share that is right, and its 95 % band.
    """
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.9, linestyle=":", label="calibrated")
    for number, (label, rows) in enumerate(models.items()):
        confidence, share, low, high = np.asarray(rows, dtype=float).T
        ax.fill_between(confidence, low, high, color=f"C{number}", alpha=0.15, linewidth=0)
        ax.plot(confidence, share, color=f"C{number}", marker="o", markersize=3, label=label)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel("confidence")
    ax.set_ylabel("images that are right (%)")
    ax.legend(loc="upper left")
