"""Evaluation protocols of adversarial contrastive learning: one file per protocol."""

from robustcl.training.protocols._aff import aff
from robustcl.training.protocols._alf import alf
from robustcl.training.protocols._slf import slf
from robustcl.training.protocols.head_steps import PROTOCOLS, ProtocolOptions, stepped_rate

__all__ = ["PROTOCOLS", "ProtocolOptions", "aff", "alf", "slf", "stepped_rate"]
