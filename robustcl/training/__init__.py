"""Training: one file per method, and the recipes that the demo and the benchmarks use."""

from robustcl.training.contradictions import Contradiction, contradiction
from robustcl.training.fine_tuning import fine_tune
from robustcl.training.logs import TrainLog
from robustcl.training.loop import Files, train_encoder
from robustcl.training.measuring import (
    alignment,
    effective_rank,
    filter_quality,
    spread,
    uniformity,
)
from robustcl.training.norm_penalty import log_norm_penalty, norm_probes
from robustcl.training.optimizers import rate
from robustcl.training.recipe import TrainRecipe, mixed_loss
from robustcl.training.recipes import (
    CIFAR_CPU_ARCHITECTURE,
    CIFAR_CPU_RECIPE,
    DEMO_ARCHITECTURE,
    DEMO_RECIPE,
)

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
