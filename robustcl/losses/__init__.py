"""Contrastive losses: one file per loss."""

from robustcl.losses.nt_xent import nt_xent
from robustcl.losses.sup_con import sup_con

__all__ = ["nt_xent", "sup_con"]
