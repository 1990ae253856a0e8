"""Train on views with Gaussian noise, and keep embeddings of noisy copies together."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from robustcl.core.errors import InputError
from robustcl.training.robust.method import RobustMethod
from robustcl.training.robust.views_step import Losses, ViewsStep


@dataclass(frozen=True, kw_only=True)
class NoisyViews(RobustMethod):
    """State training on noisy views, for certificates by smoothing.

    Args:
        sigma: Standard deviation of the noise, in pixel units: that of the certificate.
        consistency: Weight of 1 - cosine between the embeddings of two noisy copies of a view; 0
            for none, which saves their forward and backward pass.

    Raises:
        InputError: When a value is not usable.
    """

    sigma: float = 0.25
    consistency: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma < math.inf:
            raise InputError(
                f"sigma {self.sigma} of noise is not positive and finite; use that of the "
                "certificate, as 0.25, or train without --robust"
            )
        if not 0.0 <= self.consistency < math.inf:
            raise InputError(
                f"consistency {self.consistency} of noise is negative or not finite; use 0 for none"
            )

    @override
    def loss(self, step: ViewsStep) -> Losses:
        return noisy_views(self, step)


def noisy_views(method: NoisyViews, step: ViewsStep) -> Losses:
    """Compute the loss of noisy views + consistency x (1 - cosine between noisy copies).

    Noise enters after augmentation and before the input normalization, and is not clipped to the
    box, as in certification. With consistency each view has two noisy copies, the loss is the mean
    over both, and the cosine z.z' of independent copies has the mean |E z|^2: what the term keeps
    large is the norm of the smoothed embedding, in which certified radii grow.

    Args:
        method: The options.
        step: One batch.

    Returns:
        The loss, and its parts: those of the loss in use, and 'consistency'.

    Reference:
        Cohen et al., Certified Adversarial Robustness via Randomized Smoothing, ICML 2019, section
        3.3 (training with noise); Jeong and Shin, Consistency Regularization for Certified
        Robustness of Smoothed Classifiers, NeurIPS 2020, whose regularizer compares class
        probabilities; here embeddings are compared, which needs no labels.
    """
    copies = [step.encode(_noisy(method, step)) for _ in range(2 if method.consistency else 1)]
    loss, parts = step.losses(copies[0], remembers=True)
    if not method.consistency:
        return loss, parts
    other, others = step.losses(copies[1])
    parts = {name: (value + others[name]) / 2.0 for name, value in parts.items()}
    apart = 1.0 - functional.cosine_similarity(copies[0].float(), copies[1].float(), dim=1)
    consistency = apart.mean()
    total = (loss + other) / 2.0 + method.consistency * consistency
    return total, {**parts, "consistency": consistency}


def _noisy(method: NoisyViews, step: ViewsStep) -> Tensor:
    noisy = step.views + method.sigma * step.normal()
    layout = torch.channels_last if noisy.shape[1] > 1 else torch.contiguous_format
    return noisy.contiguous(memory_format=layout)
