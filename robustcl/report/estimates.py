"""Draw estimates of the radius, which prove nothing, against a radius that says something."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from robustcl.report.equal_axes import equal_axes


def estimates(
    ax: Axes,
    *,
    reference: np.ndarray,
    reference_label: str,
    values: Mapping[str, np.ndarray],
    log: bool,
    floor: float,
    radius_label: str,
) -> None:
    """Draw one mark per image and estimate.

    Args:
        ax: Where to draw.
        reference: (N,) finite radii: the best certificate, or else the attacked radius.
        reference_label: What they are.
        values: (N,) finite estimates by label.
        log: Whether both axes are logarithmic.
        floor: On logarithmic axes, where smaller radii are drawn.
        radius_label: Norm and units.
    """
    low = floor if log else 0.0
    high = 1.05 * max([low, *reference, *(float(v.max()) for v in values.values() if len(v))])
    ax.plot([low, high], [low, high], color="0.5", linewidth=0.9, zorder=1, label="equal")
    for number, (label, found) in enumerate(values.items()):
        ax.scatter(
            np.maximum(reference, low), np.maximum(found, low), s=12, linewidths=0, alpha=0.6,
            color=("C1", "C4", "C5", "C9")[number % 4], marker="oDs^"[number % 4],
            label=f"{label} (estimate)", clip_on=False,
        )  # fmt: skip
    equal_axes(ax, low=low, high=high, log=log)
    ax.set_xlabel(f"{reference_label} {radius_label}")
    ax.set_ylabel(f"ESTIMATED {radius_label}, not proved")
    ax.legend(loc="lower right", handletextpad=0.2)
