"""State the norms for which training is made robust."""

from robustcl.core.choices import Norm
from robustcl.core.errors import InputError
from robustcl.core.threat import check_norm


def check_training_norm(norm: str) -> Norm:
    """Return the norm when there is a training method for it.

    Args:
        norm: 'l2' or 'linf'.

    Returns:
        The same norm.

    Raises:
        InputError: When it is another.
    """
    if check_norm(norm) == "l1":
        raise InputError("no robust training is made for l1; use norm=l2 or norm=linf")
    return check_norm(norm)
