"""Contrastive losses, and the supervised one they are compared with: one file per loss."""

from robustcl.losses.batch_prototypes import batch_prototypes
from robustcl.losses.cross_entropy import cross_entropy
from robustcl.losses.debiased import debiased
from robustcl.losses.false_negative_filter import (
    FilterRule,
    false_negative_filter,
    step_thresholds,
    support_scores,
    suspects,
)
from robustcl.losses.gather_embeddings import gather_embeddings
from robustcl.losses.hard_negative import hard_negative
from robustcl.losses.margin_suncet import margin_suncet
from robustcl.losses.nt_xent import nt_xent
from robustcl.losses.semantic import semantic
from robustcl.losses.suncet import suncet
from robustcl.losses.sup_con import sup_con
from robustcl.losses.weighted_sum import LossBatch, Term, pair_weights, parse_losses, weighted_sum

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
