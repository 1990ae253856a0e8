"""Scale the step of each layer to the size of its weights."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Lars(torch.optim.Optimizer):
    """Take steps in proportion to the norm of each layer's weights, for large batches.

    A weight w with gradient g, of two dimensions or more, moves by v <- m v + r q (g + b w) and
    w <- w - v, where q = trust |w| / (|g| + b |w|), or 1 where either norm is 0; m is the momentum,
    r the learning rate and b the weight decay. Biases and the weights of BatchNorm, which have one
    dimension, have q = 1 and b = 0.

    Args:
        weights: What is trained.
        lr: Learning rate r.
        momentum: m in [0, 1).
        weight_decay: b >= 0.
        trust: The trust coefficient, eta in the paper.

    Reference:
        You et al., Large Batch Training of Convolutional Networks, 2017, algorithm 1; the
        exceptions are those of Chen et al., ICML 2020, appendix B.6.
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(weights, options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step.

        Args:
            closure: Not supported; None.
        """
        assert closure is None, "LARS takes no closure"
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group)

    def _move(self, weight: Tensor, slope: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weight)
        if weight.ndim > 1:
            slope = adapted(weight, slope, decay=group["weight_decay"], trust=group["trust"])
        state["velocity"].mul_(group["momentum"]).add_(slope, alpha=group["lr"])
        weight.sub_(state["velocity"])


def adapted(weight: Tensor, slope: Tensor, *, decay: float, trust: float) -> Tensor:
    """Scale a gradient to the norm of its weight, without waiting for the device.

    Args:
        weight: w.
        slope: Its gradient g.
        decay: b.
        trust: The trust coefficient.

    Returns:
        q (g + b w).
    """
    size, steepness = weight.norm(), slope.norm()
    scale = trust * size / (steepness + decay * size)
    scale = torch.where((size > 0) & (steepness > 0), scale, torch.ones_like(scale))
    return scale * slope.add(weight, alpha=decay)
