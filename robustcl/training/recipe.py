"""State a contrastive training run in full."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from robustcl.core.errors import InputError
from robustcl.core.seeds import check_seed
from robustcl.data.views.options import ViewOptions
from robustcl.declarations.losses import LOSS_ROWS
from robustcl.declarations.optimizers import OPTIMIZERS
from robustcl.options.train_fields import TrainFields
from robustcl.training.losses.sums import Term, parse_losses
from robustcl.training.robust._deacl import Deacl
from robustcl.training.robust._dynacl import Dynacl
from robustcl.training.robust._gradient_penalty import GradientPenalty
from robustcl.training.robust.attacked import Attacked
from robustcl.training.robust.method import RobustMethod
from robustcl.training.robust.methods import parse_robust

_MOST = 10**9  # epochs, or batches of a step


@dataclass(frozen=True)
class TrainRecipe(TrainFields):
    """State a contrastive training run in full.

    The fields of `TrainFields`, and these:

    Args:
        views: How views are drawn; None chooses by data set.
        seed: Seed of the order, the views and the norm probes; the caller seeds the weights.

    Raises:
        InputError: When a value is not usable.
    """

    views: ViewOptions | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_losses()
        self._check_robust()
        for name in ("epochs", "accumulate"):
            if not 1 <= getattr(self, name) <= _MOST:
                raise InputError(f"{name} {getattr(self, name)} is not from 1 to {_MOST:,}")
        if self.projector < 0:
            raise InputError(f"projector {self.projector} is negative; use 0 for none")
        if self.projector and self.log_norm_penalty:
            raise InputError(
                "log_norm_penalty bounds the embedding, which a projector hides from the losses; "
                "set one of the two to 0"
            )
        if self.batch_size < 2:
            raise InputError(f"batch_size {self.batch_size} gives no negatives; use 2 or more")
        if self.labeled_batch is not None and (self.labeled_batch < 0 or self.labeled_batch == 1):
            raise InputError(f"labeled_batch {self.labeled_batch} is not 0 or 2 or more")
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"unknown optimizer {self.optimizer!r}; use {', '.join(OPTIMIZERS)}")
        for name in ("warmup", "momentum", "ema"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InputError(f"{name} {getattr(self, name)} is not a share in [0, 1)")
        if not 0.0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate {self.learning_rate} is not positive and finite")
        for name in ("weight_decay", "log_norm_penalty"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} {getattr(self, name)} is negative or infinite")
        if self.max_seconds is not None and not self.max_seconds > 0.0:
            raise InputError(f"max_seconds {self.max_seconds} is not positive")
        for name in ("seed", "label_seed"):
            check_seed(getattr(self, name), name)

    def _check_losses(self) -> None:
        if not 0.0 <= self.labels <= 1.0:
            raise InputError(f"labels {self.labels} is not a share in [0, 1]; try 0.1")
        if self.needs_labels and self.labels == 0.0:
            raise InputError(f"loss {self.loss!r} needs labels, but labels is 0; try 0.1")
        for epoch in {0, *(t.after for t in self.terms), *(t.until or 0 for t in self.terms)}:
            if epoch < self.epochs and not any(term.active(epoch) for term in self.terms):
                raise InputError(f"no loss of {self.loss!r} counts in epoch {epoch + 1}")

    def _check_robust(self) -> None:
        method = self.method
        if method is None:
            return
        if self.log_norm_penalty:
            raise InputError(
                f"log_norm_penalty {self.log_norm_penalty} beside robust {self.robust!r}; set one "
                "of the two to 0"
            )
        if isinstance(method, Attacked):
            self._check_attacked(method)
        if isinstance(method, GradientPenalty):
            if self.projector:
                raise InputError(
                    f"projector {self.projector} hides the embedding from the penalty; set it to 0"
                )
            if self.autocast:
                raise InputError(
                    "autocast rounds embeddings to 3 digits, and the penalty divides their "
                    "difference by a small step; leave one of the two out"
                )

    def _check_attacked(self, method: Attacked) -> None:
        if isinstance(method, Dynacl):
            method.check_epochs(self.epochs)
        if isinstance(method, Deacl) and self.projector:
            raise InputError(
                f"projector {self.projector} of deacl, whose student learns the teacher's own "
                "embedding; set it to 0"
            )
        known = {term.name for term in self.terms}
        for term in method.goal_terms:
            if LOSS_ROWS[term.name].keeps_state and term.name not in known:
                raise InputError(
                    f"goal={method.goal} of {self.robust!r} learns nothing by itself; name it in "
                    f"the loss too (now {self.loss!r})"
                )

    @property
    def method(self) -> RobustMethod | None:
        """How training is made robust, read from its text."""
        return parse_robust(self.robust)

    @property
    def terms(self) -> tuple[Term, ...]:
        """The losses, read from their text."""
        return parse_losses(self.loss)

    @property
    def needs_labels(self) -> bool:
        """Whether a loss, or what an attack raises, needs labels."""
        goal = self.method.goal_terms if isinstance(self.method, Attacked) else ()
        return any(
            LOSS_ROWS[term.name].labels != "none" or term.options.get("confidence")
            for term in (*self.terms, *goal)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return every option as plain values, for a checkpoint or a manifest."""
        return asdict(self)


def mixed_loss(
    label_weight: float, *, temperature: float = 0.5, label_temperature: float = 0.1
) -> str:
    """Write (1 - w) NT-Xent + w SupCon as a loss.

    Args:
        label_weight: w in [0, 1].
        temperature: tau of NT-Xent.
        label_temperature: tau of SupCon.

    Returns:
        The text for `TrainRecipe.loss`.

    Raises:
        InputError: When w is not a share.
    """
    if not 0.0 <= label_weight <= 1.0:
        raise InputError(f"label_weight {label_weight} is not a share in [0, 1]")
    plain = f"simclr:temperature={temperature},weight={1.0 - label_weight}"
    supervised = f"supcon:temperature={label_temperature},weight={label_weight}"
    return supervised if label_weight == 1 else f"{plain}+{supervised}" if label_weight else plain
