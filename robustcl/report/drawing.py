"""Hold a figure that can be drawn, and how figures name things."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes

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
