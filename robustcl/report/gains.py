"""Draw what multi-view inference seems to gain, beside what it gains."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

Triple = Sequence[float]


def gains(
    ax: Axes, *, labels: Sequence[str], transfer: Sequence[Triple], adaptive: Sequence[Triple]
) -> None:
    """Draw both gains in robust accuracy with their intervals.

    Args:
        ax: Where to draw.
        labels: Names of the models.
        transfer: Value, low and high, as shares, against points found against the single view.
        adaptive: Likewise against every attack that knows the views.
    """
    where = np.arange(len(labels), dtype=float)
    ax.axvline(0.0, color="0.6", linewidth=0.9)
    for shift, rows, name, color in (
        (0.13, transfer, "attacker knows one view only", "C1"),
        (-0.13, adaptive, "attacker knows all views", "C3"),
    ):
        value, low, high = 100.0 * np.asarray(rows, dtype=float).T
        spread = np.stack([value - low, high - value]).clip(min=0.0)
        ax.errorbar(value, where + shift, xerr=spread, fmt="o", color=color, label=name)
    ax.set_yticks(where, labels)
    ax.set_ylim(-0.6, len(labels) - 0.4)
    ax.set_xlabel("robust accuracy gained over the single view (points)")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
