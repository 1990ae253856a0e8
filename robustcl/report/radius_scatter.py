"""Draw the certified radius of every image against the attacked one."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false

import numpy as np
from matplotlib.axes import Axes

from robustcl.report.equal_axes import equal_axes


def radius_scatter(
    ax: Axes,
    *,
    certified: np.ndarray,
    attacked: np.ndarray,
    correct: np.ndarray,
    violated: np.ndarray,
    largest_eps: float,
    log: bool,
    floor: float,
    radius_label: str,
) -> None:
    """Draw one mark per image; a sound certificate keeps them all below the diagonal.

    Args:
        ax: Where to draw.
        certified: (N,) best deterministic radius.
        attacked: (N,) smallest verified perturbation, infinite where none was found.
        correct: (N,) whether the clean prediction is the label.
        violated: (N,) whether an attack beat a certificate.
        largest_eps: Where images are drawn for which no attack found anything.
        log: Whether both axes are logarithmic.
        floor: On logarithmic axes, where smaller radii are drawn.
        radius_label: Norm and units.
    """
    low = floor if log else 0.0
    high = 1.08 * max(largest_eps, *certified[np.isfinite(certified)], low)
    x = np.maximum(np.where(np.isfinite(attacked), attacked, largest_eps), low)
    y = np.clip(certified, low, high)
    found = np.isfinite(attacked)
    ax.plot([low, high], [low, high], color="0.5", linewidth=0.9, zorder=1)
    groups = (
        (correct & found & ~violated, "o", "C0", 12, "image, perturbation found"),
        (correct & ~found, ">", "C2", 26, "nothing found up to the largest eps"),
        (~correct & ~violated & found, "x", "0.6", 14, "image classified wrongly"),
        (~correct & ~found, ">", "0.6", 26, "classified wrongly, nothing found"),
    )
    for rows, marker, color, size, label in groups:
        if rows.any():
            line = {"linewidths": 0.9 if marker == "x" else 0}
            ax.scatter(
                x[rows], y[rows], s=size, c=color, marker=marker, alpha=0.65, label=label,
                clip_on=False, zorder=3, **line,
            )  # fmt: skip
    if violated.any():
        ax.scatter(
            x[violated], y[violated], s=90, c="red", marker="X", edgecolors="white",
            linewidths=0.8, label="VIOLATION", clip_on=False, zorder=5,
        )  # fmt: skip
    equal_axes(ax, low=low, high=high, log=log)
    ax.set_xlabel(f"attacked {radius_label}")
    ax.set_ylabel(f"certified {radius_label}")
    ax.legend(loc="upper left", handletextpad=0.2)
