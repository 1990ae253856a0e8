"""Standard linear fine-tuning: a linear head on clean images, the encoder frozen."""

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


def slf(
    encoder: Encoder,
    dataset: Dataset,
    *,
    options: ProtocolOptions | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Classifier:
    """Train a linear head by cross-entropy on clean views, on a frozen encoder.

    Weights and BatchNorm statistics of the encoder stay as they are, which a hash proves.

    Args:
        encoder: The encoder; moved to the device.
        dataset: Labeled training images.
        options: How to train; what concerns the attack does not count.
        device: Where to train.
        progress: Whether to show a bar on stderr.

    Returns:
        The classifier on the CPU, in eval mode. What `zero_head` and `train_steps` refuse is
        refused.

    Reference:
        Jiang et al., Robust Pre-Training by Adversarial Contrastive Learning, NeurIPS 2020,
        section 4 (standard linear fine-tuning).
    """
    options = options or ProtocolOptions()
    linear = zero_head(encoder, dataset, torch.device(device))

    def loss_of(views: Tensor, labels: Tensor, _: torch.Generator) -> Tensor:
        return functional.cross_entropy(linear.scores(encoder, views), labels)

    rate = options.learning_rate or PROTOCOLS["slf"]
    weights = [linear.weight, linear.bias]
    on_frozen(
        encoder,
        lambda: train_steps(
            weights, dataset, loss_of, options=options, rate=rate, progress=progress
        ),
    )
    return Classifier(encoder.to("cpu"), linear.head(), class_names=dataset.class_names).eval()
