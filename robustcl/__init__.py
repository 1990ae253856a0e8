"""Train, certify and attack contrastive encoders.

`robustcl.attacks` and `robustcl.certify` are packages like the others; in a checkout they are links
to the folders `attacks` and `certify` beside this one. Every name is imported on first use, so that
a command that prints its help does not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustcl import attacks, certify
    from robustcl.core.classifier import Classifier, Encoder
    from robustcl.core.errors import (
        CheckpointError,
        InputError,
        RobustclError,
        RunError,
        UnsupportedError,
        ViolationError,
    )
    from robustcl.core.objectives import Objective, displace, misclassify, outrank
    from robustcl.core.threat import Threat
    from robustcl.models.checkpoint import load_checkpoint
    from robustcl.models.multi_view import MultiView

    __version__: str

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

_HOMES = {
    "robustcl.models.checkpoint": ("load_checkpoint",),
    "robustcl.core.classifier": ("Classifier", "Encoder"),
    "robustcl.core.errors": (
        *("CheckpointError", "InputError", "RobustclError", "RunError", "UnsupportedError"),
        "ViolationError",
    ),
    "robustcl.core.objectives": ("Objective", "displace", "misclassify", "outrank"),
    "robustcl.core.threat": ("Threat",),
    "robustcl.models.multi_view": ("MultiView",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name in ("attacks", "certify"):
        return importlib.import_module(f"robustcl.{name}")
    if name == "__version__":
        found = _version()
    elif name in _HOME_OF:
        found = getattr(importlib.import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module 'robustcl' has no attribute {name!r}")
    globals()[name] = found
    return found


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    try:
        return version("robustcl")
    except PackageNotFoundError:  # used from a checkout that is not installed
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted(__all__)
