"""Spell numbers for people: a radius with its norm, a rate with its interval."""

import math

_NORMS = {"l2": "L2", "linf": "L∞", "l1": "L1"}


def norm_name(norm: str) -> str:
    """Spell a norm.

    Args:
        norm: 'l2', 'linf' or 'l1'.

    Returns:
        'L2', 'L∞' or 'L1'.
    """
    return _NORMS.get(norm, norm)


def radius_text(radius: float | None, norm: str, *, largest_eps: float | None = None) -> str:
    """Spell a radius.

    Args:
        radius: In pixel units; None: not measured.
        norm: 'l2', 'linf' or 'l1'; for Linf a multiple of 1/255 is added.
        largest_eps: What an infinite attacked radius is known to exceed.

    Returns:
        Three significant digits, a dash, or 'above' the largest budget.
    """
    if radius is None:
        return "–"
    if not math.isfinite(radius):
        return "∞" if largest_eps is None else f"above {radius_text(largest_eps, norm)}"
    text = f"{radius:.3g}"
    if norm != "linf" or radius == 0:
        return text
    steps = radius * 255
    whole = round(steps)
    close = whole > 0 and abs(steps - whole) < 1e-6 * whole
    return f"{text} ({whole if close else f'{steps:.2g}'}/255)"


def percent(rate: float | None) -> str:
    """Spell a rate.

    Args:
        rate: In [0, 1]; None: not measured.

    Returns:
        Percent with one digit, or a dash.
    """
    return "–" if rate is None else f"{100 * rate:.1f} %"


def interval_text(interval: tuple[float, float] | None) -> str:
    """Spell an interval of a rate.

    Args:
        interval: Its ends in [0, 1]; None: not measured.

    Returns:
        '[lower, upper]' in percent, or nothing.
    """
    return "" if interval is None else f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def seconds_text(seconds: float) -> str:
    """Spell a time.

    Args:
        seconds: The time.

    Returns:
        Seconds, minutes or hours.
    """
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def time_text(seconds: float) -> str:
    """Spell a rough time.

    Args:
        seconds: The time.

    Returns:
        Two digits at most, in seconds, minutes, hours or days.
    """
    for size, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            count = seconds / size
            return f"{count:.2g} {unit}" if count < 100 else f"{count:,.0f} {unit}"
    return f"{max(seconds, 1.0):.0f} s"
