"""Other packages beside this one: same inputs, same machine, correctness before speed."""

from collections.abc import Callable

from robustcl.studies.peers._art_clever import art_clever
from robustcl.studies.peers._art_smoothing import art_smoothing
from robustcl.studies.peers._auto_lirpa import auto_lirpa
from robustcl.studies.peers._autoattack import autoattack
from robustcl.studies.peers._lightly import lightly
from robustcl.studies.peers._torchattacks import torchattacks
from robustcl.studies.peers._torchlip import torchlip
from robustcl.studies.peers._torchmetrics import torchmetrics
from robustcl.studies.peers.comparison import AbsentError, Comparison, Scene

PEERS: dict[str, Callable[[Scene], list[Comparison]]] = {
    "autoattack": autoattack,
    "torchattacks": torchattacks,
    "art_clever": art_clever,
    "art_smoothing": art_smoothing,
    "auto_lirpa": auto_lirpa,
    "torchlip": torchlip,
    "lightly": lightly,
    "torchmetrics": torchmetrics,
}

__all__ = ["PEERS", "AbsentError", "Comparison", "Scene"]
