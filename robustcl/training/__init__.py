"""Training: one file per method, and the recipes that the demo and the benchmarks use."""

from robustcl.training.collapse import alignment, effective_rank, spread, uniformity
from robustcl.training.contradiction import Contradiction, contradiction
from robustcl.training.fine_tune import fine_tune
from robustcl.training.log_norm_penalty import log_norm_penalty, norm_probes
from robustcl.training.measure import filter_quality
from robustcl.training.recipe import TrainRecipe, mixed_loss
from robustcl.training.recipes import (
    CIFAR_CPU_ARCHITECTURE,
    CIFAR_CPU_RECIPE,
    DEMO_ARCHITECTURE,
    DEMO_RECIPE,
)
from robustcl.training.schedule import rate
from robustcl.training.train_encoder import Files, train_encoder
from robustcl.training.train_log import TrainLog

__all__ = [
    "CIFAR_CPU_ARCHITECTURE",
    "CIFAR_CPU_RECIPE",
    "DEMO_ARCHITECTURE",
    "DEMO_RECIPE",
    "Contradiction",
    "Files",
    "TrainLog",
    "TrainRecipe",
    "alignment",
    "contradiction",
    "effective_rank",
    "filter_quality",
    "fine_tune",
    "log_norm_penalty",
    "mixed_loss",
    "norm_probes",
    "rate",
    "spread",
    "train_encoder",
    "uniformity",
]
