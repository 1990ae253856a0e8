"""Checks of a model before it is attacked: one file per check."""

from robustcl.attacks.checks.model_checks import model_flags
from robustcl.attacks.checks.subject import NAMES, Flag

__all__ = ["NAMES", "Flag", "model_flags"]
