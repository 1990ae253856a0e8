"""State the norms in which radii are certified."""

from robustcl.core.choices import CERTIFIED_NORMS as NORMS
from robustcl.core.choices import CertifiedNorm as Norm
from robustcl.core.errors import InputError


def check_certified_norm(norm: str) -> Norm:
    """Return the norm when radii are certified in it.

    Args:
        norm: 'l2' or 'linf'.

    Returns:
        The same norm.

    Raises:
        InputError: When it is another.
    """
    for known in NORMS:
        if norm == known:
            return known
    raise InputError(
        f"no radius is certified in {norm!r} by itself; use {' or '.join(NORMS)} (in l1 a radius "
        "of l2 holds as it is, since |v|_2 <= |v|_1: `certificate` and `prepare` take l1)"
    )
