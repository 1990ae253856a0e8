"""State the options of `robustcl attack`."""

from dataclasses import dataclass
from typing import Literal

from robustcl.options.shared import EvaluationOptions

Protocol = Literal["fast", "standard", "deep"]


@dataclass(frozen=True, kw_only=True)
class AttackOptions(EvaluationOptions):
    """Attack a checkpoint at one budget: clean and robust accuracy, records and a report.

    Args:
        eps: Budget in pixel units, as in 0.5 or 8/255; by default 0.5 in L2, 8/255 in Linf
            and 12 in L1.
        protocol: fast (PGD and a search for the smallest perturbation), standard (the reference
            AutoAttack, spared images that a certificate covers or PGD fools) or deep (likewise in
            its version 'plus': more attacks, five restarts). With --views no image is spared, and
            the attack on every view comes first.
        methods: Certificates that spare images an attack, of standard and deep; 'none' for none.
    """

    eps: str | None = None
    protocol: Protocol = "standard"
    methods: str = "sound"
