"""Dynamic adversarial contrastive learning: weaker views and a heavier adversarial part in time."""

from dataclasses import dataclass

from typing_extensions import override

from robustcl.core.errors import InputError
from robustcl.data.views.options import ViewOptions, anneal_views
from robustcl.training.robust._acl import Acl, acl
from robustcl.training.robust.views_step import Losses, ViewsStep

PERIODS = 20  # of 50 in the paper's 1,000 epochs


@dataclass(frozen=True, kw_only=True)
class Dynacl(Acl):
    """State adversarial contrastive learning whose views weaken in time.

    Args:
        period: Epochs with the same views; None for a twentieth of all, one at least.
        rise: Factor of what the adversarial part gains; it then weighs (1 + rise (1 - s)) / 2 at
            augmentation strength s.

    Raises:
        InputError: When a value is not usable.
    """

    period: int | None = None
    rise: float = 2 / 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.period is not None and self.period < 1:
            raise InputError(f"period {self.period} is below 1; give epochs, as 5")
        if not 0.0 <= self.rise <= 1.0:
            raise InputError(f"rise {self.rise} is not in [0, 1]; the paper has 2/3")
        if self.weight != 0.5:
            raise InputError(
                f"weight {self.weight} of dynacl; its weight follows the epoch, so give rise"
            )

    def check_epochs(self, epochs: int) -> None:
        """Refuse a schedule that is longer than training.

        Args:
            epochs: Epochs of training.

        Raises:
            InputError: When the first period does not end within it.
        """
        if self.period is not None and self.period > epochs:
            raise InputError(
                f"period {self.period} of dynacl is longer than training ({epochs} epochs), so the "
                f"views would never weaken; lower it, or leave it out for {_length(epochs)}"
            )

    @override
    def views(self, views: ViewOptions, *, epoch: int, epochs: int) -> ViewOptions:
        return anneal_views(views, strength(epoch, epochs=epochs, period=self.period))

    @override
    def loss(self, step: ViewsStep) -> Losses:
        return dynacl(self, step)


def _length(epochs: int) -> int:
    """Return the default period.

    Args:
        epochs: Epochs of training.

    Returns:
        A twentieth of them, one at least.
    """
    return max(epochs // PERIODS, 1)


def strength(epoch: int, *, epochs: int, period: int | None = None) -> float:
    """Return the augmentation strength, which falls from 1 in steps.

    Args:
        epoch: Epochs that are over.
        epochs: Epochs of training.
        period: Epochs with the same strength; None for the default.

    Returns:
        1 in the first period, 0 when training is over.

    Reference:
        Luo et al., Rethinking the Effect of Data Augmentation in Adversarial Contrastive Learning,
        ICLR 2023, section 4.1: s(t) = 1 - floor(t / K) K / T.
    """
    every = period or _length(epochs)
    return 0.0 if epoch >= epochs else 1.0 - (epoch // every) * every / epochs


def adversarial_share(epoch: int, *, epochs: int, period: int | None, rise: float) -> float:
    """Return the share of the adversarial part in the loss.

    Args:
        epoch: Epochs that are over.
        epochs: Epochs of training.
        period: As for `strength`.
        rise: nu.

    Returns:
        1/2 in the first period, (1 + nu) / 2 when training is over.

    Reference:
        Luo et al., ICLR 2023, section 4.2: (1 - w) L_clean + (1 + w) L_adv with
        w(t) = nu (1 - s(t)), here divided by 2.
    """
    return 0.5 * (1.0 + rise * (1.0 - strength(epoch, epochs=epochs, period=period)))


def dynacl(method: Dynacl, step: ViewsStep) -> Losses:
    """Compute the loss of `acl` with the weight of this epoch; views are weakened by the caller.

    Args:
        method: The options.
        step: One batch; its epoch counts.

    Returns:
        The loss and its parts.

    Reference:
        Luo et al., ICLR 2023, equation 6.
    """
    share = adversarial_share(
        step.epoch, epochs=step.epochs, period=method.period, rise=method.rise
    )
    return acl(method, step, weight=share)
