"""Choose the loss of a method of robust training."""

from robustcl.robust.gradient_penalty import GradientPenalty, penalized_loss
from robustcl.robust.noisy_views import NoisyViews, noisy_views
from robustcl.robust.parse_robust import Robust
from robustcl.robust.views_step import Losses, ViewsStep


def robust_loss(method: Robust, step: ViewsStep) -> Losses:
    """Compute the loss of a method on one batch.

    Args:
        method: Which, and its options.
        step: One batch.

    Returns:
        The loss, and its parts by name.
    """
    match method:
        case GradientPenalty():
            return penalized_loss(method, step)
        case NoisyViews():
            return noisy_views(method, step)
