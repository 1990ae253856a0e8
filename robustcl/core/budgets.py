"""Read budgets of attacks, and refuse those that were meant in other units."""

import itertools
import math
from collections.abc import Sequence

from robustcl.core.errors import InputError
from robustcl.core.specification import parse_number


def read_budgets(text: str, norm: str) -> tuple[float, ...]:
    """Read the budgets of an option, as in '0.25,0.5' or '4/255,8/255'.

    Args:
        text: Ascending numbers or fractions, separated by commas.
        norm: 'l2', 'linf' or 'l1'.

    Returns:
        The budgets in pixel units.

    Raises:
        InputError: When one is empty, no number, or not usable (see `check_budgets`).
    """
    parts = text.split(",")
    if not all(part.strip() for part in parts):
        raise InputError(f"eps {text!r} is empty or has an empty part; write 0.25 or 4/255,8/255")
    return check_budgets(tuple(_number(part.strip()) for part in parts), norm)


def read_budget(text: str, norm: str) -> float:
    """Read the one budget of an option, as in '0.5' or '8/255'.

    Args:
        text: A number or a fraction.
        norm: 'l2', 'linf' or 'l1'.

    Returns:
        The budget in pixel units.

    Raises:
        InputError: When there are several, or it is not usable (see `read_budgets`).
    """
    first, *others = read_budgets(text, norm)
    if others:
        raise InputError(f"eps {text!r} is {len(others) + 1} budgets; one is taken, write one")
    return first


def check_budgets(eps: Sequence[float], norm: str) -> tuple[float, ...]:
    """Return budgets that an attack can be given.

    Args:
        eps: In pixel units of images in [0, 1].
        norm: 'l2', 'linf' or 'l1'.

    Returns:
        The same budgets.

    Raises:
        InputError: When there is none, or they are not positive, finite and ascending, or in Linf
            wider than [0, 1].
    """
    said = ",".join(f"{budget:g}" for budget in eps)
    found = tuple(eps)
    if not found:
        raise InputError("eps () names no budget; write 0.25 or 8/255")
    if not all(0.0 < budget < math.inf for budget in eps):
        raise InputError(f"eps {said} is not positive and finite; write 0.25 or 8/255")
    wide = next((budget for budget in eps if norm == "linf" and budget > 1.0), None)
    if wide is not None:
        cure = f"did you mean {wide:g}/255?" if wide <= 255.0 else "use 8/255, or 1 at most"
        raise InputError(f"eps {wide:g} in linf is wider than the whole pixel range [0, 1]; {cure}")
    if any(low >= high for low, high in itertools.pairwise(eps)):
        raise InputError(f"eps {said} is not ascending; write 0.1,0.25,0.5")
    return found


def _number(text: str) -> float:
    try:
        return parse_number(text)
    except InputError as error:
        raise InputError(f"eps {error}") from error
