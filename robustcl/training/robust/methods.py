"""Read methods of robust training from their text."""

from robustcl.core.errors import InputError
from robustcl.core.lazy import declared
from robustcl.core.specification import check_options, choose, parse_specification
from robustcl.declarations.robust import ROBUST_ROWS
from robustcl.training.robust.method import RobustMethod


def parse_robust(text: str) -> RobustMethod | None:
    """Read NAME or NAME:key=value,key=value.

    Args:
        text: A key of `ROBUST_ROWS` with the fields of its dataclass, or nothing.

    Returns:
        The method; None where the text is empty.

    Raises:
        InputError: When the method, an option or a value is not usable.
    """
    if not text.strip():
        return None
    parsed = parse_specification(text)
    name = choose(parsed.name, ROBUST_ROWS, what="robust training")
    kind = declared(f"training.robust.{ROBUST_ROWS[name].home}")
    options = check_options(parsed, kind)
    try:
        return kind(**options)
    except TypeError as error:
        raise InputError(f"cannot read {text!r} ({error})") from error
