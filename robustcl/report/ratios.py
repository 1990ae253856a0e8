"""Draw how many times as long other packages take, with intervals."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes


def ratios(ax: Axes, *, labels: Sequence[str], values: Sequence[Sequence[float]]) -> None:
    """Draw one interval per comparison on a logarithmic axis.

    Args:
        ax: Where to draw.
        labels: One per comparison.
        values: Median, low and high of each; above 1 this toolkit is faster.
    """
    middle, low, high = np.asarray(values, dtype=float).T
    rows = np.arange(len(labels))[::-1]
    colors = np.where(middle >= 1.0, "C0", "C3")
    ax.axvline(1.0, color="0.45", linewidth=0.9, linestyle=":")
    for row, at, left, right, color in zip(rows, middle, low, high, colors, strict=True):
        ax.plot([left, right], [row, row], color=color, linewidth=1.6)
        ax.plot(at, row, marker="o", markersize=5, color=color)
        ax.annotate(f"{at:.3g}", (at, row), xytext=(0, 6), textcoords="offset points",
                    ha="center", fontsize=8)  # fmt: skip
    ax.set_xscale("log")
    ax.set_yticks(rows, labels)
    ax.set_ylim(-0.7, len(labels) - 0.3)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("their time over ours (median, 95 % interval)\nright of 1: ours is faster")
