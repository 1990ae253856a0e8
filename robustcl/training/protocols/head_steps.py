"""Steps and options that the protocols of adversarial contrastive learning share."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustcl.core.classifier import Encoder
from robustcl.core.errors import InputError, RunError
from robustcl.core.modules import eval_mode
from robustcl.core.threat import Threat
from robustcl.data.dataset import Dataset
from robustcl.data.views.options import default_views, weak_views
from robustcl.data.views.simclr import simclr_views
from robustcl.models.heads import LinearHead
from robustcl.models.heads.fitting import encoder_hash
from robustcl.training.logs import training_bar
from robustcl.training.losses.similarities import unit

DROPS, SCHEDULE = (15, 20), 25  # the papers' epochs; shorter schedules shrink alike


def stepped_rate(epoch: int, epochs: int) -> float:
    """Return the share of the first learning rate: 1, then .1, then .01.

    Args:
        epoch: Epochs that are over.
        epochs: Epochs in all; the drops come at 15/25 and 20/25 of them.

    Returns:
        The share.
    """
    return 0.1 ** sum(epoch * SCHEDULE >= drop * epochs for drop in DROPS)


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


@dataclass(frozen=True, eq=False)
class LinearWeights:
    """Hold the trained part of a linear head on s z, where z = h / |h| and s = sqrt(d).

    The coordinates of s z have a mean square of 1, as those of features behind BatchNorm have, so
    the papers' learning rates fit; the factor is multiplied into the head in the end.

    Args:
        weight: (K, d), from 0.
        bias: (K,), from 0.
    """

    weight: nn.Parameter
    bias: nn.Parameter

    @property
    def scale(self) -> float:
        """Factor s of the unit embedding."""
        return math.sqrt(self.weight.shape[1])

    def scores(self, encoder: Encoder, images: Tensor) -> Tensor:
        """Return class scores.

        Args:
            encoder: The encoder, in any mode.
            images: (B, C, H, W).

        Returns:
            (B, K).
        """
        return functional.linear(self.scale * unit(encoder(images)), self.weight, self.bias)

    def head(self) -> LinearHead:
        """Return the head on z."""
        return LinearHead(self.scale * self.weight.detach().cpu(), self.bias.detach().cpu())


def zero_head(encoder: Encoder, dataset: Dataset, device: torch.device) -> LinearWeights:
    """Begin with a head of zeros, and the encoder in eval mode on the device.

    Args:
        encoder: Moved to the device.
        dataset: Labeled images.
        device: Where to train.

    Returns:
        The head.

    Raises:
        InputError: When the data has no labels, one class, or images of another size.
    """
    if not dataset.labeled or dataset.num_classes < 2:
        raise InputError(f"{dataset.name!r} has no labels of two classes; a protocol needs them")
    if dataset.image_shape != encoder.image_shape:
        raise InputError(
            f"{dataset.name!r} has images of shape {dataset.image_shape} (C, H, W) but the encoder "
            f"takes {encoder.image_shape}; add ',size=N' to the data"
        )
    encoder.to(device).eval()
    with torch.no_grad():
        size = encoder(dataset.batch([0]).images.to(device)).shape[1]
    weight = torch.zeros(dataset.num_classes, size, device=device)
    return LinearWeights(nn.Parameter(weight), nn.Parameter(weight.new_zeros(len(weight))))


def train_steps(
    weights: list[nn.Parameter],
    dataset: Dataset,
    loss_of: Callable[[Tensor, Tensor, torch.Generator], Tensor],
    *,
    options: ProtocolOptions,
    rate: float,
    progress: bool = False,
) -> None:
    """Lower a loss on weak views (flips where the data allows them, shifts of an eighth).

    Args:
        weights: What is trained; their device counts.
        dataset: Labeled images.
        loss_of: (views, labels, generator) to a scalar.
        options: Epochs, batch size, decay, momentum and seed count.
        rate: First learning rate.
        progress: Whether to show a bar on stderr.

    Raises:
        RunError: When the loss is not finite.
    """
    device = weights[0].device
    images, labels = dataset.tensor().to(device), torch.from_numpy(dataset.labels).to(device)
    views = weak_views(default_views(dataset.name, dataset.image_shape))
    generator = torch.Generator(device).manual_seed(options.seed)
    optimizer = torch.optim.SGD(
        weights, lr=rate, momentum=options.momentum, weight_decay=options.weight_decay
    )
    with training_bar(progress) as show:
        for epoch in range(options.epochs):
            for group in optimizer.param_groups:
                group["lr"] = rate * stepped_rate(epoch, options.epochs)
            order = torch.randperm(len(images), generator=generator, device=device)
            value = math.nan
            for rows in order.split(options.batch_size):
                if len(rows) < 2 <= len(images):  # BatchNorm in training mode needs two
                    continue
                view, _ = simclr_views(images[rows], options=views, generator=generator)
                loss = loss_of(view, labels[rows], generator)
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise RunError(f"the loss became {value}; lower the learning rate ({rate})")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            show((epoch + 1) / options.epochs, f"epoch {epoch + 1} loss {value:.3f}")


def on_frozen(encoder: Encoder, train: Callable[[], None]) -> None:
    """Train something on a frozen encoder, and prove by its hash that it stayed as it was.

    Args:
        encoder: Weights and BatchNorm statistics are hashed before and after.
        train: Does the training.

    Raises:
        RunError: When the encoder changed, which would be a defect.
    """
    before = encoder_hash(encoder)
    with eval_mode(encoder):
        train()
    if encoder_hash(encoder) != before:
        raise RunError("the encoder changed while a head was trained; please report this")
