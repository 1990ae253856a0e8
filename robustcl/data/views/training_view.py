"""Hold one of the encoder's own training views, with parameters that are fixed."""

import torch
from torch import Tensor, nn

from robustcl.data.views.draws import Draws
from robustcl.data.views.options import ViewOptions
from robustcl.data.views.simclr import drawn_views


class TrainingView(nn.Module):
    """Apply one draw of the training views, the same for every image and at every call.

    Color changes clip to [0, 1], so the map is not linear, and no certificate covers it.

    Args:
        options: How the encoder's views were drawn.
        seed: Seed of the draw.
    """

    def __init__(self, options: ViewOptions, seed: int) -> None:
        super().__init__()
        self.options = options
        self.seed = seed

    def forward(self, images: Tensor) -> Tensor:
        """Return the view of each image.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, C, H, W) in [0, 1].
        """
        generator = torch.Generator().manual_seed(self.seed)
        return drawn_views(Draws(images, generator, shared=True), self.options)
