"""Checks of a model before it is attacked: one file per check."""

from robustcl.attacks.checks.flag import NAMES, Flag
from robustcl.attacks.checks.model_flags import model_flags

__all__ = ["NAMES", "Flag", "model_flags"]
