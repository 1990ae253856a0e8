"""Adversarial linear fine-tuning: a linear head on attacked images, the encoder frozen."""

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.classifier import Classifier, Encoder
from robustcl.data.dataset import Dataset
from robustcl.training.protocols.head_steps import (
    PROTOCOLS,
    ProtocolOptions,
    on_frozen,
    train_steps,
    zero_head,
)
from robustcl.training.robust.inner_attack import InnerAttack


def alf(
    encoder: Encoder,
    dataset: Dataset,
    *,
    attack: InnerAttack,
    options: ProtocolOptions | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Classifier:
    """Train a linear head by cross-entropy on attacked views, on a frozen encoder.

    The attack raises the same cross-entropy through head and encoder. Weights and BatchNorm
    statistics of the encoder stay as they are, which a hash proves.

    Args:
        encoder: The encoder; moved to the device.
        dataset: Labeled training images.
        attack: Finds the attacked views, such as `attacks.inner_ascent`.
        options: How to train, and what the attack may do.
        device: Where to train.
        progress: Whether to show a bar on stderr.

    Returns:
        The classifier on the CPU, in eval mode. What `zero_head` and `train_steps` refuse is
        refused.

    Reference:
        Luo et al., Rethinking the Effect of Data Augmentation in Adversarial Contrastive Learning,
        ICLR 2023, section 5 (adversarial linear fine-tuning).
    """
    options = options or ProtocolOptions()
    linear = zero_head(encoder, dataset, torch.device(device))

    def loss_of(views: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        def cross_entropy(points: Tensor) -> Tensor:
            return functional.cross_entropy(linear.scores(encoder, points), labels)

        attacked = attack(
            cross_entropy, views, options.threat, generator=generator, steps=options.steps
        )
        return cross_entropy(attacked)

    rate = options.learning_rate or PROTOCOLS["alf"]
    weights = [linear.weight, linear.bias]
    on_frozen(
        encoder,
        lambda: train_steps(
            weights, dataset, loss_of, options=options, rate=rate, progress=progress
        ),
    )
    return Classifier(encoder.to("cpu"), linear.head(), class_names=dataset.class_names).eval()
