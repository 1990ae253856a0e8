"""State what a method of robust training does, and when."""

from torch import nn

from robustcl.core.classifier import Encoder
from robustcl.data.views.options import ViewOptions
from robustcl.training.robust.views_step import Losses, ViewsStep


class RobustMethod:
    """Make training robust: a frozen dataclass whose fields are the options of the method.

    Every hook but the loss may be left as it is.
    """

    def check_encoder(self, encoder: Encoder) -> None:
        """Refuse an encoder that cannot be trained so.

        Args:
            encoder: Before training.
        """

    def begin(self, backbone: nn.Module) -> None:
        """Change the network before training.

        Args:
            backbone: Changed in place.
        """

    def views(self, views: ViewOptions, *, epoch: int, epochs: int) -> ViewOptions:
        """Return how views are drawn in an epoch.

        Args:
            views: As the recipe has them.
            epoch: Epochs that are over.
            epochs: Epochs of training.

        Returns:
            The views.
        """
        del epoch, epochs
        return views

    def loss(self, step: ViewsStep) -> Losses:
        """Compute the loss on one batch.

        Args:
            step: The batch.

        Returns:
            The loss, and its parts by name. By default the loss in use, on the views as they are.
        """
        return step.losses(step.encode(step.views), remembers=True)

    def after_step(self, backbone: nn.Module) -> None:
        """Change the network after a step of the optimizer.

        Args:
            backbone: Changed in place.
        """

    def end(self, backbone: nn.Module) -> None:
        """Change the network after training.

        Args:
            backbone: Changed in place.
        """
