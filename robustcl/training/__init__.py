"""Training: one file per method, and the recipes that the demo and the benchmarks use."""

from robustcl.training.log_norm_penalty import log_norm_penalty, norm_probes
from robustcl.training.recipes import (
    CIFAR_CPU_ARCHITECTURE,
    CIFAR_CPU_RECIPE,
    DEMO_ARCHITECTURE,
    DEMO_RECIPE,
)
from robustcl.training.simclr import SimCLRRecipe, TrainLog, train_simclr

__all__ = [
    "CIFAR_CPU_ARCHITECTURE",
    "CIFAR_CPU_RECIPE",
    "DEMO_ARCHITECTURE",
    "DEMO_RECIPE",
    "SimCLRRecipe",
    "TrainLog",
    "log_norm_penalty",
    "norm_probes",
    "train_simclr",
]
