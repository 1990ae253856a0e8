"""Train MaxMin in a layout that is cheap to compute."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustcl.core.errors import UnsupportedError
from robustcl.models.encoders.max_min import MaxMin


class SortedHalves(nn.Module):
    """Replace channels i and i + C/2 by their maximum and their minimum: MaxMin, reordered.

    For training only. Pairs that lie next to each other in memory cannot be vectorized; on a CPU
    MaxMin took more time than all convolutions together, and this form a twentieth of it. It is
    written with one ReLU, whose derivative is cheaper than those of maximum and minimum; values
    differ from MaxMin's in rounding.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Return the features with each pair sorted, the larger ones in the first half.

        Args:
            features: (B, C) or (B, C, ...), C even.

        Returns:
            The same shape.
        """
        first, second = features.chunk(2, dim=1)
        excess = torch.relu(first - second)
        return torch.cat([second + excess, first - excess], dim=1)


@torch.no_grad()
def to_halves(backbone: nn.Sequential) -> None:
    """Replace every MaxMin by `SortedHalves` and reorder weights so that the function stays.

    Args:
        backbone: A chain in which every MaxMin follows a convolution or linear layer; changed in
            place.
    """
    _relaid(backbone, MaxMin, SortedHalves, lambda count: torch.arange(count).view(-1, 2).T)


@torch.no_grad()
def to_pairs(backbone: nn.Sequential) -> None:
    """Undo `to_halves`.

    Args:
        backbone: The same chain; changed in place.
    """
    _relaid(backbone, SortedHalves, MaxMin, lambda count: torch.arange(count).view(2, -1).T)


def _relaid(
    backbone: nn.Sequential,
    old: type[nn.Module],
    new: type[nn.Module],
    order_of: Callable[[int], Tensor],
) -> None:
    # The layers before and after an activation take their channels in another order.
    layers = list(backbone)
    for place, layer in enumerate(layers):
        if type(layer) is not old:
            continue
        before = layers[place - 1] if place else None
        after = next((part for part in layers[place + 1 :] if _has_matrix(part)), None)
        between = layers[place + 1 : layers.index(after)] if after is not None else [None]
        if not _has_matrix(before) or any(type(part) is not nn.Flatten for part in between):
            raise UnsupportedError(
                f"{old.__name__} number {place} of the chain does not stand between two "
                "convolutions or linear layers; its channels cannot be reordered"
            )
        assert isinstance(before, nn.Conv2d | nn.Linear)
        assert isinstance(after, nn.Conv2d | nn.Linear)
        order = order_of(len(before.weight)).reshape(-1).to(before.weight.device)
        before.weight.copy_(before.weight[order])
        if before.bias is not None:
            before.bias.copy_(before.bias[order])
        # Flattened, every channel is a block of columns.
        blocks = after.weight.view(len(after.weight), len(order), -1)
        after.weight.copy_(blocks[:, order].view_as(after.weight))
        backbone[place] = new()


def _has_matrix(layer: nn.Module | None) -> bool:
    return isinstance(layer, nn.Conv2d | nn.Linear)
