"""Train, certify and attack contrastive encoders.

`robustcl.attacks` and `robustcl.certify` are packages like the others; in a checkout they are links
to the folders `attacks` and `certify` beside this one. Every name is imported on first use, so that
a command that prints its help does not wait for torch.
"""

from typing import TYPE_CHECKING

from robustcl.core.lazy import lazy_exports

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
    from robustcl.models.heads.fitting import fit_head
    from robustcl.models.multi_view import MultiView
    from robustcl.workflows.audit import AuditResult, audit
    from robustcl.workflows.library import load, save, train

    __version__: str

__all__ = [
    "AuditResult",
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
    "audit",
    "certify",
    "displace",
    "fit_head",
    "load",
    "load_checkpoint",
    "misclassify",
    "outrank",
    "save",
    "train",
]

if not TYPE_CHECKING:
    _lazy, __dir__ = lazy_exports(__name__)

    def __getattr__(name):
        if name != "__version__":
            return _lazy(name)
        globals()[name] = found = _version()
        return found


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    try:
        return version("robustcl")
    except PackageNotFoundError:  # used from a checkout that is not installed
        return "0+unknown"
