"""Compute the contrastive loss with hard negatives."""

import math

import torch
from torch import Tensor

from robustcl.core.errors import InputError
from robustcl.training.losses._debiased import corrected, negatives_of
from robustcl.training.losses.similarities import similarities


def hard_negative(
    first: Tensor,
    second: Tensor,
    *,
    temperature: float = 0.5,
    class_prior: float = 0.1,
    beta: float = 1.0,
) -> Tensor:
    """Compute the debiased loss with negatives weighted by how similar they are.

    The sum S of `debiased` becomes N sum_k w_k e_k / sum_k w_k with e_k = exp(s_ik / tau) and
    w_k = e_k^beta. beta = 0 gives `debiased`, and with class_prior = 0 also `nt_xent`.

    Args:
        first: (B, d) raw embeddings of one view of each image; B >= 2.
        second: (B, d) raw embeddings of the other view, in the same order.
        temperature: tau > 0.
        class_prior: The chance that a negative is of the same class, in [0, 1).
        beta: Concentration >= 0 on hard negatives.

    Returns:
        A scalar. What `similarities` and `debiased` refuse is refused.

    Reference:
        Robinson et al., Contrastive Learning with Hard Negative Samples, ICLR 2021
        (the weights as in the authors' code).
    """
    logits = similarities(first, second, temperature=temperature)
    return hard_negative_of(logits, temperature=temperature, class_prior=class_prior, beta=beta)


def hard_negative_of(
    logits: Tensor, *, temperature: float, class_prior: float, beta: float
) -> Tensor:
    """Compute the hard-negative loss from the logits of all pairs.

    Args:
        logits: (2B, 2B), as from `similarities`.
        temperature: The tau that the logits were divided by.
        class_prior: c in [0, 1).
        beta: Concentration >= 0.

    Returns:
        A scalar.

    Raises:
        InputError: When beta is negative or not finite.
    """
    if not 0.0 <= beta < math.inf:
        raise InputError(f"beta {beta!r} is negative or not finite; try 1.0")
    itself = torch.isinf(masked := negatives_of(logits))
    # beta * -inf would be NaN for beta = 0.
    weights = (beta * masked.masked_fill(itself, 0.0)).masked_fill(itself, -torch.inf)
    weighted = torch.logsumexp(masked + weights, dim=1) - torch.logsumexp(weights, dim=1)
    negatives = weighted + math.log(len(logits) - 2)
    return corrected(logits, negatives, temperature=temperature, class_prior=class_prior)
