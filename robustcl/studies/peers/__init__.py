"""Other packages beside this one: same inputs, same machine, correctness before speed."""

from collections.abc import Callable

from robustcl.studies.peers._art_clever import art_clever
from robustcl.studies.peers._art_smoothing import art_smoothing
from robustcl.studies.peers._auto_lirpa import auto_lirpa
from robustcl.studies.peers._autoattack import compare_autoattack
from robustcl.studies.peers._lightly import lightly
from robustcl.studies.peers._torchattacks import compare_torchattacks
from robustcl.studies.peers._torchlip import torchlip
from robustcl.studies.peers._torchmetrics import torchmetrics
from robustcl.studies.peers.comparison import AbsentError, Comparison, ComparisonInputs

PEERS: dict[str, Callable[[ComparisonInputs], list[Comparison]]] = {
    "autoattack": compare_autoattack,
    "torchattacks": compare_torchattacks,
    "art_clever": art_clever,
    "art_smoothing": art_smoothing,
    "auto_lirpa": auto_lirpa,
    "torchlip": torchlip,
    "lightly": lightly,
    "torchmetrics": torchmetrics,
}

__all__ = ["PEERS", "AbsentError", "Comparison", "ComparisonInputs"]
