"""Train, certify and attack contrastive encoders.

The documented spelling is `from robustcl import attacks, certify`; both are packages of their
own in the same distribution and are imported on first use.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from robustcl.checkpoint import load_checkpoint
from robustcl.classifier import Classifier, Encoder
from robustcl.errors import (
    CheckpointError,
    InputError,
    RobustclError,
    RunError,
    UnsupportedError,
    ViolationError,
)
from robustcl.objectives import Objective, displace, misclassify, outrank
from robustcl.threat import Threat
from robustcl.views.multi_view import MultiView

if TYPE_CHECKING:
    import attacks
    import certify

try:
    __version__ = version("robustcl")
except PackageNotFoundError:  # used from a checkout that is not installed
    __version__ = "0+unknown"

__all__ = [
    "CheckpointError",
    "Classifier",
    "Encoder",
    "InputError",
    "MultiView",
    "Objective",
    "RobustclError",
    "RunError",
    "Threat",
    "UnsupportedError",
    "ViolationError",
    "attacks",
    "certify",
    "displace",
    "load_checkpoint",
    "misclassify",
    "outrank",
]


def __getattr__(name: str) -> ModuleType:
    if name not in ("attacks", "certify"):
        raise AttributeError(f"module 'robustcl' has no attribute {name!r}")
    module = importlib.import_module(name)
    place = Path(module.__file__ or "").resolve()
    if place.parents[1:2] != (Path(__file__).resolve().parents[1],):
        raise ImportError(
            f"{name!r} is a stranger's module at {place}, not robustcl's; run from another folder, "
            f"or rename the other {name!r}"
        )
    return module


def __dir__() -> list[str]:
    return sorted(__all__)
