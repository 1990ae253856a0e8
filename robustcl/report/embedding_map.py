"""Draw the embeddings of the images in a plane."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

MARKERS = "os^DvP*X<>"
COLORS = 10


def embedding_map(
    ax: Axes,
    *,
    points: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    shares: Sequence[float],
) -> None:
    """Draw one mark per image; classes differ in color, and beyond ten in shape as well.

    Args:
        ax: Where to draw.
        points: (N, 2) coordinates.
        labels: (N,) classes.
        class_names: Names by class; classes beyond them are numbered.
        shares: Shares of the variance on the two axes.
    """
    present = np.unique(labels)
    size = 14 if len(points) <= 2000 else 5
    for label in present.tolist():
        rows = labels == label
        name = class_names[label] if 0 <= label < len(class_names) else str(label)
        ax.scatter(
            points[rows, 0], points[rows, 1], s=size, color=f"C{label % COLORS}", linewidths=0,
            marker=MARKERS[label // COLORS % len(MARKERS)], alpha=0.7,
            label=name if len(name) <= 18 else f"{name[:17]}…",
        )  # fmt: skip
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xlabel(f"first principal component ({shares[0]:.0%} of the variance)")
    ax.set_ylabel(f"second ({shares[1]:.0%})")
    if len(present) <= 20:
        ax.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=1.6, handletextpad=0.1,
            ncols=1 if len(present) <= 12 else 2, columnspacing=0.6,
        )  # fmt: skip
