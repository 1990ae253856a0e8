"""Give both axes of a scatter plot the same range and scale."""

from matplotlib.axes import Axes


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
