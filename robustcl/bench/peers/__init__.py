"""Other packages beside this one: same inputs, same machine, correctness before speed."""

from collections.abc import Callable

from robustcl.bench.peers.art_clever import art_clever
from robustcl.bench.peers.art_smoothing import art_smoothing
from robustcl.bench.peers.auto_lirpa import auto_lirpa
from robustcl.bench.peers.autoattack import autoattack
from robustcl.bench.peers.comparison import AbsentError, Comparison, Scene
from robustcl.bench.peers.lightly import lightly
from robustcl.bench.peers.torchattacks import torchattacks
from robustcl.bench.peers.torchlip import torchlip
from robustcl.bench.peers.torchmetrics import torchmetrics

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
