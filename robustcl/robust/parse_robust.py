"""Read how training is made robust, as in 'noise:sigma=.25,consistency=1'."""

from robustcl.core.errors import InputError
from robustcl.core.specification import check_options, choose, parse_specification
from robustcl.robust.acl import Acl
from robustcl.robust.deacl import Deacl
from robustcl.robust.dynacl import Dynacl
from robustcl.robust.gradient_penalty import GradientPenalty
from robustcl.robust.lipschitz import Lipschitz
from robustcl.robust.noisy_views import NoisyViews
from robustcl.robust.rocl import Rocl

Robust = Acl | Deacl | GradientPenalty | Lipschitz | NoisyViews | Rocl  # Dynacl is an Acl
METHODS: dict[str, type[Robust]] = {
    "acl": Acl,
    "deacl": Deacl,
    "dynacl": Dynacl,
    "lipschitz": Lipschitz,
    "noise": NoisyViews,
    "penalty": GradientPenalty,
    "rocl": Rocl,
}


def parse_robust(text: str) -> Robust | None:
    """Read NAME or NAME:key=value,key=value.

    Args:
        text: A key of `METHODS` with the fields of its dataclass, or nothing.

    Returns:
        The method; None where the text is empty.

    Raises:
        InputError: When the method, an option or a value is not usable.
    """
    if not text.strip():
        return None
    parsed = parse_specification(text)
    kind = METHODS[choose(parsed.name, METHODS, what="robust training")]
    options = check_options(parsed, kind)
    try:
        return kind(**options)  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        raise InputError(f"cannot read {text!r} ({error})") from error
