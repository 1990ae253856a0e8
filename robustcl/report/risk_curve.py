"""Draw the share of errors as unsure images are rejected."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

Rows = Sequence[Sequence[float]]


def risk_curve(ax: Axes, *, models: Mapping[str, Rows]) -> None:
    """Draw risk against coverage.

    Args:
        ax: Where to draw.
        models: By label, rows of coverage, risk, and its 95 % band.
    """
    for number, (label, rows) in enumerate(models.items()):
        coverage, risk, low, high = np.asarray(rows, dtype=float).T
        ax.fill_between(coverage, low, high, color=f"C{number}", alpha=0.15, linewidth=0)
        ax.plot(coverage, risk, color=f"C{number}", label=label)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    ax.set_ylim(bottom=0.0)
    ax.set_xlabel("images accepted, the surest first (%)")
    ax.set_ylabel("errors among them (%)")
    ax.legend(loc="upper left")
