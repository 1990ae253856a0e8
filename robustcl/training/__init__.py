"""Training: one file per method, and the recipes that the demo and the benchmarks use."""

from robustcl.training.collapse import alignment, effective_rank, spread, uniformity
from robustcl.training.contradiction import Contradiction, contradiction
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
    "Contradiction",
    "SimCLRRecipe",
    "TrainLog",
    "alignment",
    "contradiction",
    "effective_rank",
    "log_norm_penalty",
    "norm_probes",
    "spread",
    "train_simclr",
    "uniformity",
]
