"""Read robust methods from their text, and compute their losses."""

from robustcl.core.errors import InputError
from robustcl.core.specification import check_options, choose, parse_specification
from robustcl.data.views.options import ViewOptions, anneal_views, weak_views
from robustcl.training.robust._acl import Acl, acl
from robustcl.training.robust._deacl import Deacl, deacl
from robustcl.training.robust._dynacl import Dynacl, dynacl, strength
from robustcl.training.robust._gradient_penalty import GradientPenalty, penalized_loss
from robustcl.training.robust._noisy_views import NoisyViews, noisy_views
from robustcl.training.robust._rocl import Rocl, rocl
from robustcl.training.robust.lipschitz import Lipschitz
from robustcl.training.robust.views_step import Losses, ViewsStep

Robust = Acl | Deacl | GradientPenalty | Lipschitz | NoisyViews | Rocl  # Dynacl is an Acl
_METHODS: dict[str, type[Robust]] = {
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
        text: A key of `_METHODS` with the fields of its dataclass, or nothing.

    Returns:
        The method; None where the text is empty.

    Raises:
        InputError: When the method, an option or a value is not usable.
    """
    if not text.strip():
        return None
    parsed = parse_specification(text)
    kind = _METHODS[choose(parsed.name, _METHODS, what="robust training")]
    options = check_options(parsed, kind)
    try:
        return kind(**options)  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        raise InputError(f"cannot read {text!r} ({error})") from error


def epoch_views(
    method: Robust | None, views: ViewOptions, *, epoch: int, epochs: int
) -> ViewOptions:
    """Return how views are drawn in an epoch.

    Args:
        method: How training is made robust.
        views: The views of the recipe.
        epoch: Epochs that are over.
        epochs: Epochs of training.

    Returns:
        Annealed views for 'dynacl', weak ones for 'deacl', else the same.
    """
    if isinstance(method, Dynacl):
        return anneal_views(views, strength(epoch, epochs=epochs, period=method.period))
    return weak_views(views) if isinstance(method, Deacl) else views


def robust_loss(method: Robust, step: ViewsStep) -> Losses:
    """Compute the loss of a method on one batch.

    Args:
        method: Which, and its options.
        step: One batch.

    Returns:
        The loss, and its parts by name.
    """
    match method:
        case Dynacl():
            return dynacl(method, step)
        case Acl():
            return acl(method, step)
        case Rocl():
            return rocl(method, step)
        case Deacl():
            return deacl(method, step)
        case GradientPenalty():
            return penalized_loss(method, step)
        case Lipschitz():  # what makes it robust happens to the weights
            return step.losses(step.encode(step.views), remembers=True)
        case NoisyViews():
            return noisy_views(method, step)
