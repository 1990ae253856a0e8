"""Contrastive losses, and the supervised one they are compared with: one file per loss."""

from robustcl.training.losses._batch_prototypes import batch_prototypes
from robustcl.training.losses._cross_entropy import cross_entropy
from robustcl.training.losses._debiased import debiased
from robustcl.training.losses._false_negative_filter import (
    FilterRule,
    false_negative_filter,
    step_thresholds,
    support_scores,
    suspects,
)
from robustcl.training.losses._hard_negative import hard_negative
from robustcl.training.losses._margin_suncet import margin_suncet
from robustcl.training.losses._nt_xent import nt_xent
from robustcl.training.losses._semantic import semantic
from robustcl.training.losses._suncet import suncet
from robustcl.training.losses._sup_con import sup_con
from robustcl.training.losses.gathering import gather_embeddings
from robustcl.training.losses.sums import LossBatch, Term, pair_weights, parse_losses, weighted_sum

__all__ = [
    "FilterRule",
    "LossBatch",
    "Term",
    "batch_prototypes",
    "cross_entropy",
    "debiased",
    "false_negative_filter",
    "gather_embeddings",
    "hard_negative",
    "margin_suncet",
    "nt_xent",
    "pair_weights",
    "parse_losses",
    "semantic",
    "step_thresholds",
    "suncet",
    "sup_con",
    "support_scores",
    "suspects",
    "weighted_sum",
]
