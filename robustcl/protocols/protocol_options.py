"""State how a protocol trains."""

import math
from dataclasses import dataclass, field

from robustcl.core.errors import InputError
from robustcl.core.threat import Threat

PROTOCOLS = {"slf": 0.1, "alf": 0.01, "aff": 0.1}  # with their first learning rates


@dataclass(frozen=True)
class ProtocolOptions:
    """State how a protocol trains: SGD with momentum, the rate lowered in two steps.

    Args:
        epochs: Passes over the images; the drops of the rate shrink with them.
        learning_rate: First rate; None for the protocol's own (`PROTOCOLS`).
        weight_decay: An L2 penalty.
        momentum: Of SGD.
        batch_size: Images per step; fewer where there are fewer.
        seed: Seed of order, views and random starts.
        threat: What the attack may do, in `alf` and `aff`.
        steps: Steps of the attack.
        beta: Weight of the adversarial part of TRADES, in `aff`.

    Raises:
        InputError: When a value is not usable.
    """

    epochs: int = 25
    learning_rate: float | None = None
    weight_decay: float = 2e-4
    momentum: float = 0.9
    batch_size: int = 128
    seed: int = 0
    threat: Threat = field(default_factory=lambda: Threat("linf", 8 / 255))
    steps: int = 10
    beta: float = 6.0

    def __post_init__(self) -> None:
        for name in ("epochs", "steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)} is below 1; use 1 or more")
        if self.batch_size < 2:
            raise InputError(f"batch_size {self.batch_size} is below 2; use 2 or more")
        if self.learning_rate is not None and not 0.0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate {self.learning_rate} is not positive and finite")
        for name in ("weight_decay", "beta"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} {getattr(self, name)} is negative or not finite")
        if not 0.0 <= self.momentum < 1.0:
            raise InputError(f"momentum {self.momentum} is not in [0, 1)")
        if isinstance(self.threat.eps, float | int) and not self.threat.eps > 0.0:
            raise InputError("eps 0 leaves the attack nothing to do; use 8/255, or protocol slf")
