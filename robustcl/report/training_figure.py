"""Draw the log of a training run: losses, accuracy, contradiction and geometry against epochs."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from robustcl.core import atomic
from robustcl.core.errors import InputError
from robustcl.core.files import read_bytes
from robustcl.core.output_folder import check_output
from robustcl.data.images import opened_image
from robustcl.declarations.losses import LOSS_ROWS
from robustcl.report.figures import STYLE

_COLORS = ("C0", "C1", "C2", "C4", "C5", "C9", "C3")
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
        color = _COLORS[number % len(_COLORS)]
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


PANEL = (3.5, 2.55)  # inches
DPI = 150  # of the style
SOFTWARE = "robustcl"  # what a picture says of who drew it
_MOST = 64_000_000  # bytes of a log
_LARGEST = 1e100  # what an axis can be drawn for
_REASON = 200  # signs of a library's error in a message


@dataclass(frozen=True)
class Panel:
    """State what one panel shows.

    Args:
        title: What the numbers are.
        note: How to read them.
        columns: Labels by column of the log.
        share: Whether the numbers are shares in [0, 1].
        limits: Lower and upper end of the axis; None leaves it to the numbers.
    """

    title: str
    note: str
    columns: dict[str, str]
    share: bool = False
    limits: tuple[float | None, float | None] = (None, None)


PANELS = (
    Panel(
        "Loss",
        "and its parts, without their weights",
        {
            "loss": "sum",
            **{name: row.title for name, row in LOSS_ROWS.items()},
            "penalty": "penalty",
            "adversarial": "attacked views",
            "consistency": "noisy views apart",
            "distance": "distance from the teacher",
        },
    ),
    Panel(
        "kNN accuracy",
        "on training images",
        {"knn_accuracy": "kNN accuracy"},
        share=True,
        limits=(0.0, 1.0),
    ),
    Panel(
        "Contradiction",
        "share of the repulsion that parts images of one class",
        {"contradiction_share": "of all repulsion", "contradiction_top": "of it, in the top 1 %"},
        share=True,
        limits=(0.0, None),
    ),
    Panel(
        "Alignment",
        "lower: views of an image lie closer together",
        {"alignment": "alignment"},
        limits=(0.0, None),
    ),
    Panel("Uniformity", "lower: spread more evenly", {"uniformity": "uniformity"}),
    Panel("Spread", "1: uniform, 0: collapsed", {"spread": "spread"}, limits=(0.0, 1.02)),
    Panel(
        "False-negative filter",
        "suspects against true labels",
        {"filter_precision": "precision", "filter_recall": "recall"},
        share=True,
        limits=(0.0, 1.0),
    ),
)


def write_training_figure(log: Path) -> Path:
    """Draw a training log into a PNG beside it.

    Args:
        log: The CSV file that `robustcl train` writes.

    Returns:
        The path of the PNG.

    Raises:
        InputError: When the file is not such a log.
    """
    content = training_figure(read_log(log))
    place = log.with_suffix(".png")
    check_output(place, overwrite=True, ours=is_training_figure, kind="figure of a training log")
    atomic.write_bytes(place, content)
    return place


def is_training_figure(place: Path) -> bool:
    """Tell whether a picture was drawn here; those of version 0.1 say so by their size alone.

    Args:
        place: The file, an ordinary one.

    Returns:
        Whether it was.
    """
    try:
        with opened_image(place, str(place)) as picture:
            said, size = picture.info.get("Software"), picture.size
    except InputError:
        return False
    columns, rows = (round(pixels / (DPI * side)) for pixels, side in zip(size, PANEL, strict=True))
    fits = size == (int(DPI * PANEL[0] * columns), int(DPI * PANEL[1] * rows)) and rows > 0
    return said == SOFTWARE or (said is None and fits)


def read_log(log: Path) -> pd.DataFrame:
    """Read a training log.

    Args:
        log: The CSV file.

    Returns:
        A row per epoch; NaN where there is no number.

    Raises:
        InputError: When the file is not such a log.
    """
    try:
        table = pd.read_csv(io.BytesIO(read_bytes(log, most=_MOST)))
    except (ValueError, OverflowError) as error:  # pandas' parser errors are ValueErrors
        reason = " ".join(str(error).split())[:_REASON]
        raise InputError(
            f"cannot read the training log {str(log)!r} (it {reason}); give the .csv beside a "
            "checkpoint"
        ) from error
    wanted = {"epoch", "loss"}
    if table.empty or not wanted <= set(table.columns):
        raise InputError(
            f"{str(log)!r} is not the log of a training run, whose columns begin with epoch, "
            "steps, seconds and loss; give the .csv beside a checkpoint"
        )
    found = pd.DataFrame({name: pd.to_numeric(table[name], errors="coerce") for name in table})
    drawn = found.where(found.abs() < _LARGEST)
    if not np.isfinite(drawn[["epoch", "loss"]].to_numpy(dtype=float)).all(axis=1).any():
        raise InputError(
            f"{str(log)!r} has no epoch with a loss that is a number; give the .csv beside a "
            "checkpoint"
        )
    return drawn


def training_figure(table: pd.DataFrame) -> bytes:
    """Draw a training log, a panel per kind of number that it has.

    Args:
        table: From `read_log`.

    Returns:
        The content of the PNG, the same bytes every time.
    """
    found = [(panel, curves) for panel in PANELS if (curves := _curves(panel, table))]
    width = min(len(found), 3 if len(found) <= 6 else 4)
    height = -(-len(found) // width)
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(PANEL[0] * width, PANEL[1] * height))
        FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained", hspace=0.08, wspace=0.04)
        first = None
        for number, (panel, curves) in enumerate(found):
            ax = figure.add_subplot(height, width, number + 1, sharex=first)
            first = first or ax
            training_curves(
                *(ax,), curves=curves, title=panel.title, note=panel.note, share=panel.share,
                limits=panel.limits,
            )  # fmt: skip
            if number + width >= len(found):
                ax.set_xlabel("epoch")
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": SOFTWARE})
    return stream.getvalue()


def _curves(panel: Panel, table: pd.DataFrame) -> dict[str, np.ndarray]:
    # Not every epoch is measured, and not every loss counts in every epoch.
    found = {}
    for column, label in panel.columns.items():
        if column in table:
            points = table[["epoch", column]].to_numpy(dtype=float)
            points = points[np.isfinite(points).all(axis=1)]
            if len(points):
                found[label] = points
    return dict([next(iter(found.items()))]) if _alone(table, panel) else found


def _alone(table: pd.DataFrame, panel: Panel) -> bool:
    # One loss of weight 1 is the sum.
    parts = [name for name in panel.columns if name in table and name != "loss"]
    return "loss" in panel.columns and len(parts) == 1 and table[parts[0]].equals(table["loss"])
