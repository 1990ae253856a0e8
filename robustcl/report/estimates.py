"""Draw estimates of the radius, which prove nothing, against a radius that says something."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from robustcl.report.equal_axes import equal_axes


def estimates(
    ax: Axes,
    *,
    reference_label: str,
    values: Mapping[str, tuple[np.ndarray, np.ndarray]],
    log: bool,
    floor: float,
    radius_label: str,
) -> None:
    """Draw one mark per image and estimate; above an attacked radius the estimate is wrong.

    Args:
        ax: Where to draw.
        reference_label: What the radii across are: attacked, or the best certified.
        values: By label, finite radii (N,) and estimates (N,); infinite ones lie at the upper edge.
        log: Whether both axes are logarithmic.
        floor: On logarithmic axes, where smaller radii are drawn.
        radius_label: Norm and units.
    """
    low = floor if log else 0.0
    sides = np.concatenate([side for pair in values.values() for side in pair])
    high = 1.05 * float(max([low, *sides[np.isfinite(sides)]]))
    ax.plot([low, high], [low, high], color="0.5", linewidth=0.9, zorder=1, label="equal")
    for number, (label, (reference, found)) in enumerate(values.items()):
        ax.scatter(
            np.maximum(reference, low), np.clip(found, low, high), s=12, linewidths=0, alpha=0.6,
            color=("C1", "C4", "C5", "C9")[number % 4], marker="oDs^"[number % 4],
            label=f"{label} (estimate)", clip_on=False,
        )  # fmt: skip
    equal_axes(ax, low=low, high=high, log=log)
    ax.set_xlabel(f"{reference_label} {radius_label}")
    ax.set_ylabel(f"ESTIMATED {radius_label}, not proved")
    ax.legend(loc="lower right", handletextpad=0.2)
