"""Evaluation protocols of adversarial contrastive learning: one file per protocol."""

from robustcl.protocols.aff import aff
from robustcl.protocols.alf import alf
from robustcl.protocols.protocol_options import PROTOCOLS, ProtocolOptions
from robustcl.protocols.slf import slf
from robustcl.protocols.stepped_rate import stepped_rate

__all__ = ["PROTOCOLS", "ProtocolOptions", "aff", "alf", "slf", "stepped_rate"]
