"""Adversarial full fine-tuning: encoder and linear head by TRADES."""

import torch
from torch import Tensor
from torch.nn import functional

from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.modules import eval_mode
from robustcl.data.dataset import Dataset
from robustcl.training.protocols.head_steps import (
    PROTOCOLS,
    LinearWeights,
    ProtocolOptions,
    train_steps,
    zero_head,
)
from robustcl.training.robust.inner_attack import InnerAttack


def aff(
    encoder: Encoder,
    dataset: Dataset,
    *,
    attack: InnerAttack,
    options: ProtocolOptions | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Classifier:
    """Train encoder and linear head by cross-entropy on clean views + beta KL to attacked ones.

    The attack raises the KL divergence, with the network in eval mode; encoder weights and
    BatchNorm statistics change.

    Args:
        encoder: What is tuned; moved to the device.
        dataset: Labeled training images.
        attack: Finds the attacked views, such as `attacks.inner_ascent`.
        options: How to train, and what the attack may do.
        device: Where to train.
        progress: Whether to show a bar on stderr.

    Returns:
        The classifier on the CPU, in eval mode. What `zero_head` and `train_steps` refuse is
        refused.

    Reference:
        Zhang et al., Theoretically Principled Trade-off between Robustness and Accuracy, ICML
        2019, equation 5 and algorithm 1 (TRADES), as the fine-tuning of Jiang et al., Robust
        Pre-Training by Adversarial Contrastive Learning, NeurIPS 2020, section 4.
    """
    options = options or ProtocolOptions()
    linear = zero_head(encoder, dataset, torch.device(device))

    def loss_of(views: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        attacked = _attacked(encoder, linear, views, attack, options, generator)
        encoder.train()
        clean = linear.scores(encoder, views)
        drift = divergence(linear.scores(encoder, attacked), clean)
        return functional.cross_entropy(clean, labels) + options.beta * drift

    rate = options.learning_rate or PROTOCOLS["aff"]
    weights = [*encoder.parameters(), linear.weight, linear.bias]
    train_steps(weights, dataset, loss_of, options=options, rate=rate, progress=progress)
    return Classifier(encoder.to("cpu"), linear.head(), class_names=dataset.class_names).eval()


def divergence(scores: Tensor, reference: Tensor) -> Tensor:
    """Compute the mean Kullback-Leibler divergence of softmax(reference) from softmax(scores).

    Args:
        scores: (B, K).
        reference: (B, K).

    Returns:
        A scalar >= 0; 0 where the two agree.
    """
    logs = functional.log_softmax(scores, dim=1), functional.log_softmax(reference, dim=1)
    return functional.kl_div(*logs, reduction="batchmean", log_target=True)


def _attacked(
    encoder: Encoder,
    linear: LinearWeights,
    views: Tensor,
    attack: InnerAttack,
    options: ProtocolOptions,
    generator: torch.Generator,
) -> Tensor:
    with eval_mode(encoder):
        with torch.no_grad():
            reference = linear.scores(encoder, views)

        def drift(points: Tensor) -> Tensor:
            return divergence(linear.scores(encoder, points), reference)

        return attack(drift, views, options.threat, generator=generator, steps=options.steps)
