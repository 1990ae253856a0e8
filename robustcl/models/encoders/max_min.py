"""Sort channels in pairs, an activation that keeps norms."""

import torch
from torch import Tensor, nn

from robustcl.core.errors import InputError


class MaxMin(nn.Module):
    """Replace channels 2i and 2i + 1 by their maximum and their minimum.

    At every image it permutes each pair, so it is 1-Lipschitz in L2, L1 and Linf, and the gradient
    that is sent back keeps its norm. It is the activation of networks that are 1-Lipschitz by
    construction.

    Reference:
        Anil et al., Sorting Out Lipschitz Function Approximation, ICML 2019, section 4.1
        (GroupSort with groups of two).
    """

    def forward(self, features: Tensor) -> Tensor:
        """Return the features with each pair of channels sorted, the larger first.

        Args:
            features: (B, C) or (B, C, ...), C even.

        Returns:
            The same shape.

        Raises:
            InputError: When the number of channels is odd.
        """
        if features.ndim < 2 or features.shape[1] % 2:
            raise InputError(
                f"MaxMin on features of shape {tuple(features.shape)}; give (B, C, ...) with C even"
            )
        first, second = features.unflatten(1, (-1, 2)).unbind(2)
        pairs = torch.stack([torch.maximum(first, second), torch.minimum(first, second)], dim=2)
        return pairs.flatten(1, 2)
