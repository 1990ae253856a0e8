"""Draw how accuracy depends on the number of views."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes


def count_curve(
    ax: Axes, *, single: float, models: Mapping[str, Sequence[Sequence[float]]]
) -> None:
    """Draw the accuracy by the number of views.

    Args:
        ax: Where to draw.
        single: Accuracy of the single view.
        models: By aggregate, rows of count and accuracy gained, with the interval's ends.
    """
    ax.axhline(100.0 * single, color="0.6", linewidth=0.9, linestyle=":", label="single view")
    for number, (label, rows) in enumerate(models.items()):
        count, gain, low, high = np.asarray(rows, dtype=float).T
        places = count * 1.03**number
        value = 100.0 * (single + gain)
        spread = np.stack([100.0 * (gain - low), 100.0 * (high - gain)]).clip(min=0.0)
        ax.errorbar(places, value, yerr=spread, color=f"C{number}", marker="o", label=label)
    ax.set_xscale("log", base=2)
    counts = sorted({int(row[0]) for rows in models.values() for row in rows})
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.set_xlabel("views")
    ax.set_ylabel("accuracy (%), paired intervals")
    ax.legend(loc="best")
