"""Contrastive losses: one file per loss."""

from robustcl.losses.debiased import debiased
from robustcl.losses.false_negative_filter import (
    FilterRule,
    false_negative_filter,
    step_thresholds,
    support_scores,
    suspects,
)
from robustcl.losses.hard_negative import hard_negative
from robustcl.losses.nt_xent import nt_xent
from robustcl.losses.semantic import semantic
from robustcl.losses.suncet import suncet
from robustcl.losses.sup_con import sup_con

__all__ = [
    "FilterRule",
    "debiased",
    "false_negative_filter",
    "hard_negative",
    "nt_xent",
    "semantic",
    "step_thresholds",
    "suncet",
    "sup_con",
    "support_scores",
    "suspects",
]
