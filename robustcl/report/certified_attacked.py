"""Draw certified and attacked curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from robustcl.records.summary import RadiusCurve

CurvePoints = Sequence[Sequence[float]]


def certified_attacked_curve(
    ax: Axes,
    *,
    certified: CurvePoints,
    attacked: CurvePoints,
    others: Mapping[str, CurvePoints],
    radius_label: str,
    clean_accuracy: float | None,
) -> None:
    """Draw the certified-attacked curve: the model's true robust accuracy lies in the shaded band.

    Args:
        ax: Where to draw.
        certified: [radius, accuracy] pairs of deterministic certificates; may be empty.
        attacked: [eps, accuracy] pairs on the same radii, as far as the attacks went; may be empty.
        others: Curves of probabilistic certificates and other subjects, by label.
        radius_label: Label of the radius with norm and units.
        clean_accuracy: Accuracy without a perturbation; None where the data has no labels, so that
            curves are shares of images that keep their predicted class.
    """
    rate = "accuracy"
    if clean_accuracy is None:
        rate = "share"
    else:
        ax.axhline(
            clean_accuracy, color="0.6", linewidth=0.9, linestyle=":", label="clean accuracy"
        )
    if len(attacked):
        eps, upper = np.asarray(attacked, dtype=float).T
        ax.plot(eps, upper, color="C3", linestyle="--", label=f"{rate} under attack")
        ax.plot(eps[-1], upper[-1], color="C3", marker="|", markersize=9)
        if len(certified):
            radius, lower = np.asarray(certified, dtype=float).T
            below = np.interp(eps, radius, lower)
            ax.fill_between(
                eps, below, upper, color="0.55", alpha=0.18, linewidth=0, label="undecided"
            )
    if len(certified):
        radius, lower = np.asarray(certified, dtype=float).T
        ax.plot(radius, lower, color="C0", label=f"certified {rate} (deterministic)")
    for number, (label, curve) in enumerate(others.items()):
        radius, accuracy = np.asarray(curve, dtype=float).T
        color = ("C2", "C4", "C5", "C9", "C7")[number % 5]
        ax.plot(radius, accuracy, color=color, linewidth=1.0, label=label)
    ax.set_ylim(-0.01, 1.02)
    ax.set_xlim(left=0.0)
    ax.margins(x=0.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel(radius_label)
    ax.set_ylabel("images (%)" if rate == "accuracy" else "images that keep their class (%)")
    ax.legend(loc="upper right")


_COLORS = 10  # of the style


@dataclass(frozen=True, eq=False)
class CertifiedAttacked:
    """Hold the curves of one run.

    Args:
        label: Runs of one label share a color.
        certified: [radius, accuracy] pairs; may be empty.
        attacked: [eps, accuracy] pairs; may be empty.
    """

    label: str
    certified: RadiusCurve
    attacked: RadiusCurve


def certified_attacked_curves(
    ax: Axes, *, runs: Sequence[CertifiedAttacked], radius_label: str
) -> None:
    """Draw a solid certified and a dashed attacked line per run.

    Args:
        ax: Where to draw.
        runs: The curves; where a label comes again, as with other seeds, lines are thin.
        radius_label: Label of the radius with norm and units.
    """
    labels = list(dict.fromkeys(run.label for run in runs))
    thin = len(runs) > len(labels)
    for run in runs:
        color = f"C{labels.index(run.label) % _COLORS}"
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
    names = [Line2D([], [], color=f"C{n % _COLORS}", label=label) for n, label in enumerate(labels)]
    kinds = [
        Line2D([], [], color="0.35", linestyle="-", label="certified (deterministic)"),
        Line2D([], [], color="0.35", linestyle="--", label="left by attacks"),
    ]
    ax.legend(handles=[*names, *kinds], loc="upper left", bbox_to_anchor=(1.01, 1.0))
