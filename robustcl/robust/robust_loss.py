"""Choose the views and the loss of a method of robust training."""

from robustcl.data.views.options import ViewOptions, anneal_views, weak_views
from robustcl.robust.acl import Acl, acl
from robustcl.robust.deacl import Deacl, deacl
from robustcl.robust.dynacl import Dynacl, dynacl, strength
from robustcl.robust.gradient_penalty import GradientPenalty, penalized_loss
from robustcl.robust.lipschitz import Lipschitz
from robustcl.robust.noisy_views import NoisyViews, noisy_views
from robustcl.robust.parse_robust import Robust
from robustcl.robust.rocl import Rocl, rocl
from robustcl.robust.views_step import Losses, ViewsStep


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
