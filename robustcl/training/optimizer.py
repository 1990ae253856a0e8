"""Build the optimizer of a training run."""

import torch
from torch import nn

from robustcl.training.lars import Lars
from robustcl.training.muon import Muon
from robustcl.training.recipe import TrainRecipe


def build_optimizer(weights: list[nn.Parameter], recipe: TrainRecipe) -> torch.optim.Optimizer:
    """Build the optimizer that a recipe names; AdamW and SGD are fused on a GPU.

    Args:
        weights: What is trained.
        recipe: Its optimizer, rate, decay and momentum count.

    Returns:
        The optimizer.
    """
    rate, decay = recipe.learning_rate, recipe.weight_decay
    fused = True if weights[0].is_cuda else None
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(weights, lr=rate, weight_decay=decay, fused=fused)
    if recipe.optimizer == "muon":
        return Muon(weights, lr=rate, weight_decay=decay, momentum=recipe.momentum)
    if recipe.optimizer == "lars":
        return Lars(weights, lr=rate, weight_decay=decay, momentum=recipe.momentum)
    return torch.optim.SGD(
        weights,
        lr=rate,
        weight_decay=decay,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        fused=fused,
    )
