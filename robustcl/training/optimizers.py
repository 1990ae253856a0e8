"""Optimizers and the schedule of their rate."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from robustcl.core.lazy import declared
from robustcl.declarations.optimizers import OPTIMIZERS
from robustcl.training.recipe import TrainRecipe


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


QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Move each matrix by its momentum with all singular values brought near 1.

    With gradient g, velocity v <- m v + (1 - m) g and u = m v + (1 - m) g, a weight of two
    dimensions or more, read as a matrix with a row per output, moves by w <- (1 - r b) w - r O(u),
    where O(u) is five steps of a quintic iteration towards the nearest orthogonal matrix; r is the
    learning rate, m the momentum and b the weight decay. It suits matrices that are kept
    orthogonal, whose tangent directions all have the same scale. Weights of one dimension take
    Adam's steps (betas .9 and .999) of size `side` r.

    Args:
        weights: What is trained.
        lr: Learning rate r; 0.02 for orthogonal layers.
        momentum: m in [0, 1).
        weight_decay: b >= 0, of matrices.
        side: Step of weights of one dimension, relative to r.

    Reference:
        Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024.
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        side: float = 0.15,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "side": side}
        super().__init__(weights, options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step.

        Args:
            closure: Not supported; None.
        """
        assert closure is None, "Muon takes no closure"
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight.ndim > 1:
                    self._turn(weight, weight.grad, group)
                else:
                    self._adapt(weight, weight.grad, group["side"] * group["lr"])

    def _turn(self, weight: Tensor, slope: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weight)
        velocity = state["velocity"].lerp_(slope, 1.0 - group["momentum"])
        update = nearly_orthogonal(slope.lerp(velocity, group["momentum"]).flatten(1))
        if group["weight_decay"]:
            weight.mul_(1.0 - group["lr"] * group["weight_decay"])
        weight.sub_(update.view_as(weight), alpha=group["lr"])

    def _adapt(self, weight: Tensor, slope: Tensor, size: float) -> None:
        state = self.state[weight]
        if "steps" not in state:
            state |= {
                "steps": torch.zeros((), device=weight.device),
                "mean": torch.zeros_like(weight),
                "square": torch.zeros_like(weight),
            }
        steps = state["steps"].add_(1.0)
        mean = state["mean"].lerp_(slope, 0.1) / (1.0 - 0.9**steps)
        square = state["square"].lerp_(slope.square(), 0.001) / (1.0 - 0.999**steps)
        weight.sub_(size * mean / (square.sqrt() + 1e-8))


def nearly_orthogonal(matrix: Tensor) -> Tensor:
    """Bring the singular values of a matrix near 1, between 0.68 and 1.21 if none was tiny.

    The products are in bfloat16, as in the reference: a direction need not be more exact.

    Args:
        matrix: (m, n).

    Returns:
        (m, n) in the matrix's type.
    """
    is_tall = len(matrix) > matrix.shape[1]
    wide = matrix.T if is_tall else matrix
    wide = (wide / wide.norm().clamp_min(1e-12)).to(torch.bfloat16)
    a, b, c = QUINTIC
    for _ in range(5):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return (wide.T if is_tall else wide).to(matrix.dtype)


def rate(done: float, warmup: float) -> float:
    """Return the share of the peak learning rate: a linear rise, then a half cosine to 0.

    Args:
        done: Share of the schedule that is over, in [0, 1].
        warmup: Share of the schedule that rises.

    Returns:
        A number in (0, 1] that is 0 only at the end.
    """
    if done < warmup:
        return 0.01 + 0.99 * done / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (done - warmup) / (1.0 - warmup)))


def build_optimizer(weights: list[nn.Parameter], recipe: TrainRecipe) -> torch.optim.Optimizer:
    """Build the optimizer that a recipe names; AdamW and SGD are fused on a GPU.

    Args:
        weights: What is trained.
        recipe: Its optimizer, rate, decay and momentum count.

    Returns:
        The optimizer.
    """
    return declared(f"training.{OPTIMIZERS[recipe.optimizer]}")(weights, recipe)


def build_adamw(weights: list[nn.Parameter], recipe: TrainRecipe) -> torch.optim.Optimizer:
    """Return AdamW, see `build_optimizer`."""
    return torch.optim.AdamW(
        weights,
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        fused=True if weights[0].is_cuda else None,
    )


def build_sgd(weights: list[nn.Parameter], recipe: TrainRecipe) -> torch.optim.Optimizer:
    """Return SGD with Nesterov momentum, see `build_optimizer`."""
    return torch.optim.SGD(
        weights,
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        fused=True if weights[0].is_cuda else None,
    )


def build_lars(weights: list[nn.Parameter], recipe: TrainRecipe) -> torch.optim.Optimizer:
    """Return LARS, see `build_optimizer`."""
    rate, decay = recipe.learning_rate, recipe.weight_decay
    return Lars(weights, lr=rate, weight_decay=decay, momentum=recipe.momentum)


def build_muon(weights: list[nn.Parameter], recipe: TrainRecipe) -> torch.optim.Optimizer:
    """Return Muon, see `build_optimizer`."""
    rate, decay = recipe.learning_rate, recipe.weight_decay
    return Muon(weights, lr=rate, weight_decay=decay, momentum=recipe.momentum)
