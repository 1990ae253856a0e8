"""Draw the figures of reports."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false
from matplotlib.ticker import MaxNLocator, PercentFormatter

from robustcl.core.numbers import norm_name


@dataclass(frozen=True, eq=False)
class Drawing:
    """Hold a figure that can be drawn.

    Args:
        name: Of its file.
        size: Width and height in inches.
        draw: Draws it into an ax.
    """

    name: str
    size: tuple[float, float]
    draw: Callable[[Axes], None]


def radius_label(norm: str) -> str:
    """Label a radius with its norm and units.

    Args:
        norm: 'l2', 'linf' or 'l1'.

    Returns:
        The label.
    """
    return f"radius ({norm_name(norm)}, pixel units, images in [0, 1])"


def short_name(method: str, names: list[str]) -> str:
    """Leave out a method's options where its name alone says which one is meant.

    Args:
        method: NAME or NAME:options.
        names: All methods of the run.

    Returns:
        A label.
    """
    name = method.split(":", maxsplit=1)[0]
    alone = sum(other.split(":", maxsplit=1)[0] == name for other in names) == 1
    label = name if alone else method if len(method) <= 40 else f"{method[:39]}…"
    return label.replace("$", r"\$")  # matplotlib would read it as a formula


def equal_axes(ax: Axes, *, low: float, high: float, log: bool) -> None:
    """Set both axes to [low, high].

    Args:
        ax: Where to set them.
        low: Lower end.
        high: Upper end.
        log: Whether both are logarithmic.
    """
    if log:
        ax.set_xscale("log")
        ax.set_yscale("log")
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)


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


MARKERS = "os^DvP*X<>"
_COLORS = 10


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
            points[rows, 0], points[rows, 1], s=size, color=f"C{label % _COLORS}", linewidths=0,
            marker=MARKERS[label // _COLORS % len(MARKERS)], alpha=0.7,
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


def radius_histogram(
    ax: Axes, *, radii: Mapping[str, np.ndarray], bins: np.ndarray, radius_label: str
) -> None:
    """Draw one outlined histogram per method.

    Args:
        ax: Where to draw.
        radii: (N,) finite radii by label; wrong and undecided images are 0.
        bins: Edges shared by all methods.
        radius_label: Label of the radius with norm and units.
    """
    for number, (label, values) in enumerate(radii.items()):
        color = ("C0", "C2", "C4", "C5", "C9", "C1")[number % 6]
        ax.hist(values, bins=list(bins), color=color, alpha=0.25, linewidth=0)
        ax.hist(values, bins=list(bins), color=color, histtype="step", linewidth=1.3, label=label)
    ax.set_xlim(bins[0], bins[-1])
    ax.set_xlabel(radius_label)
    ax.set_ylabel("images")
    ax.legend(loc="upper right")


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


_Rows = Sequence[Sequence[float]]


def reliability(ax: Axes, *, models: Mapping[str, _Rows]) -> None:
    """Draw a reliability diagram: on the diagonal confidence is the share that is right.

    Args:
        ax: Where to draw.
        models: By label, rows of mean confidence, share that is right, and its 95 % band.
    """
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.9, linestyle=":", label="calibrated")
    for number, (label, rows) in enumerate(models.items()):
        confidence, share, low, high = np.asarray(rows, dtype=float).T
        ax.fill_between(confidence, low, high, color=f"C{number}", alpha=0.15, linewidth=0)
        ax.plot(confidence, share, color=f"C{number}", marker="o", markersize=3, label=label)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel("confidence")
    ax.set_ylabel("images that are right (%)")
    ax.legend(loc="upper left")


def risk_curve(ax: Axes, *, models: Mapping[str, _Rows]) -> None:
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


def severity_curves(ax: Axes, *, curves: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Draw one line per model: the mean over corruptions and seeds, and the range over seeds.

    Args:
        ax: Where to draw.
        curves: By model, rows of severity (0: clean), mean, lowest and highest.
    """
    for number, (label, rows) in enumerate(curves.items()):
        severity, mean, low, high = np.asarray(rows, dtype=float).T
        ax.plot(severity, mean, marker="o", markersize=4, color=f"C{number % 10}", label=label)
        ax.fill_between(severity, low, high, color=f"C{number % 10}", alpha=0.12, linewidth=0)
    ax.set_ylim(0.0, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("severity (0: clean)")
    ax.set_ylabel("correct (%)")
    ax.legend(loc="lower left")


def ratios(ax: Axes, *, labels: Sequence[str], values: Sequence[Sequence[float]]) -> None:
    """Draw one interval per comparison on a logarithmic axis.

    Args:
        ax: Where to draw.
        labels: One per comparison.
        values: Median, low and high of each; above 1 this toolkit is faster.
    """
    middle, low, high = np.asarray(values, dtype=float).T
    rows = np.arange(len(labels))[::-1]
    colors = np.where(middle >= 1.0, "C0", "C3")
    ax.axvline(1.0, color="0.45", linewidth=0.9, linestyle=":")
    for row, at, left, right, color in zip(rows, middle, low, high, colors, strict=True):
        ax.plot([left, right], [row, row], color=color, linewidth=1.6)
        ax.plot(at, row, marker="o", markersize=5, color=color)
        ax.annotate(f"{at:.3g}", (at, row), xytext=(0, 6), textcoords="offset points",
                    ha="center", fontsize=8)  # fmt: skip
    ax.set_xscale("log")
    ax.set_yticks(rows, labels)
    ax.set_ylim(-0.7, len(labels) - 0.3)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("their time over ours (median, 95 % interval)\nright of 1: ours is faster")


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


def principal_components(embeddings: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Project onto the first two principal components, with a sign that does not flip.

    Args:
        embeddings: (N, d) finite numbers.

    Returns:
        (N, 2) coordinates, 0 where there is no such direction, and the shares of the variance.

    Reference:
        Pearson, On lines and planes of closest fit to systems of points in space, 1901.
    """
    centered = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    _, sizes, directions = np.linalg.svd(centered, full_matrices=False)
    directions = directions[:2]
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    points = np.zeros((len(embeddings), 2))
    points[:, : len(directions)] = centered @ (directions * signs[:, None]).T
    shares = np.zeros(2)
    total = float((sizes**2).sum())
    if total > 0:
        shares[: len(directions)] = sizes[:2] ** 2 / total
    return points, (float(shares[0]), float(shares[1]))
