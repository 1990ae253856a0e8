"""Draw accuracy against the severity of corruptions."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter


def severity_curves(ax: Axes, *, curves: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Draw one line per model: the mean over corruptions and seeds, and the range over seeds.

    Args:
        ax: Where to draw.
        curves: By model, rows of severity (0: clean), mean, lowest and highest.
    """
    for number, (label, rows) in enumerate(curves.items()):
        severity, mean, low, high = np.asarray(rows, dtype=float).T
        ax.plot(severity, mean, marker="o", markersize=4, color=f"C{number % 10}", label=label)
        ax.fill_between(severity, low, high, color=f"C{number % 10}", alpha=0.12, linewidth=0)
    ax.set_ylim(0.0, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("severity (0: clean)")
    ax.set_ylabel("correct (%)")
    ax.legend(loc="lower left")
