"""Draw one kind of number of a training log against epochs."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

COLORS = ("C0", "C1", "C2", "C4", "C5", "C9", "C3")
DOTTED = 40  # up to so many points each has a dot


def training_curves(
    ax: Axes,
    *,
    curves: Mapping[str, np.ndarray],
    title: str,
    note: str,
    share: bool = False,
    limits: tuple[float | None, float | None] = (None, None),
) -> None:
    """Draw curves that belong together; the last value of the first one stands beside the title.

    Args:
        ax: Where to draw.
        curves: (T, 2) epochs and values by label, T >= 1; the first is the one that counts.
        title: What the numbers are.
        note: How to read them.
        share: Whether they are shares in [0, 1].
        limits: Lower and upper end of the axis; None leaves it to the curves.
    """
    marker = "o" if max(map(len, curves.values())) <= DOTTED else None
    for number, (label, points) in enumerate(curves.items()):
        epochs, values = points.T
        color = COLORS[number % len(COLORS)]
        width, order = (1.3, 2.2) if number else (2.0, 2.4)
        ax.plot(
            *(epochs, values), color=color, label=label, linewidth=width, zorder=order,
            marker=marker, markersize=2.6,
        )  # fmt: skip
        ax.plot(epochs[-1], values[-1], color=color, marker="o", markersize=4.5, zorder=order)
    last = next(iter(curves.values()))[-1, 1]
    text = f"{100 * last:.1f} %" if share else f"{last:#.3g}".replace("-", "\N{MINUS SIGN}")
    ax.set_title(title, loc="left", pad=17)
    ax.set_title(text, loc="right", color="C0", pad=17)
    ax.text(0, 1.03, note, transform=ax.transAxes, fontsize=7.5, color="0.4", va="bottom")
    if limits[0] is not None:  # the margin above the curves follows from the whole axis
        ax.update_datalim([(0.0, limits[0])], updatex=False)
        ax.autoscale_view()
    ax.set_ylim(*limits)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    if share:
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    if len(curves) > 1:
        ax.legend(loc="best", handlelength=1.4)
