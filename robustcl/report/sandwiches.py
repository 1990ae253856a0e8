"""Draw the certified and attacked accuracy of several runs on one pair of axes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from robustcl.records.summary import Curve

COLORS = 10  # of the style


@dataclass(frozen=True, eq=False)
class Sandwich:
    """Hold the curves of one run.

    Args:
        label: Runs of one label share a color.
        certified: [radius, accuracy] pairs; may be empty.
        attacked: [eps, accuracy] pairs; may be empty.
    """

    label: str
    certified: Curve
    attacked: Curve


def sandwiches(ax: Axes, *, runs: Sequence[Sandwich], radius_label: str) -> None:
    """Draw a solid certified and a dashed attacked line per run.

    Args:
        ax: Where to draw.
        runs: The curves; where a label comes again, as with other seeds, lines are thin.
        radius_label: Label of the radius with norm and units.
    """
    labels = list(dict.fromkeys(run.label for run in runs))
    thin = len(runs) > len(labels)
    for run in runs:
        color = f"C{labels.index(run.label) % COLORS}"
        for curve, line in ((run.certified, "-"), (run.attacked, "--")):
            if len(curve):
                radius, accuracy = np.asarray(curve, dtype=float).T
                width = 1.0 if thin else 1.8
                ax.plot(radius, accuracy, color=color, linestyle=line, linewidth=width)
    ends = [curve[-1][0] for run in runs for curve in (run.attacked, run.certified) if len(curve)]
    ax.set_xlim(0.0, max(ends, default=1.0))
    ax.set_ylim(-0.01, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel(radius_label)
    ax.set_ylabel("images (%)")
    names = [Line2D([], [], color=f"C{n % COLORS}", label=label) for n, label in enumerate(labels)]
    kinds = [
        Line2D([], [], color="0.35", linestyle="-", label="certified (deterministic)"),
        Line2D([], [], color="0.35", linestyle="--", label="left by attacks"),
    ]
    ax.legend(handles=[*names, *kinds], loc="upper left", bbox_to_anchor=(1.01, 1.0))
