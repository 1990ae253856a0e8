"""Compute the debiased contrastive loss."""

import torch
from torch import Tensor

from robustcl.core.errors import InputError
from robustcl.training.losses.similarities import partner_of, similarities


def debiased(
    first: Tensor, second: Tensor, *, temperature: float = 0.5, class_prior: float = 0.1
) -> Tensor:
    """Compute the contrastive loss whose negatives are corrected for their share of positives.

    For a view with positive P = exp(s_ii+ / tau) and N = 2B - 2 negatives of sum S, the negatives
    count as Ng = max{ (S - N c P) / (1 - c), N exp(-1/tau) }, and the loss is -log P / (P + Ng),
    averaged over views. c = 0 gives `nt_xent`. (Not the 'decoupled' loss, which is abbreviated
    in the same way.)

    Args:
        first: (B, d) raw embeddings of one view of each image; B >= 2.
        second: (B, d) raw embeddings of the other view, in the same order.
        temperature: tau > 0.
        class_prior: c in [0, 1), tau+ in the paper: the chance that a negative is of the same
            class; 1 / K for K equal classes.

    Returns:
        A scalar. What `similarities` refuses is refused.

    Reference:
        Chuang et al., Debiased Contrastive Learning, NeurIPS 2020, with one positive per anchor.
    """
    logits = similarities(first, second, temperature=temperature)
    return debiased_of(logits, temperature=temperature, class_prior=class_prior)


def debiased_of(logits: Tensor, *, temperature: float, class_prior: float) -> Tensor:
    """Compute the debiased loss from the logits of all pairs.

    Args:
        logits: (2B, 2B), as from `similarities`.
        temperature: The tau that the logits were divided by.
        class_prior: c in [0, 1).

    Returns:
        A scalar.
    """
    negatives = torch.logsumexp(negatives_of(logits), dim=1)
    return corrected(logits, negatives, temperature=temperature, class_prior=class_prior)


def negatives_of(logits: Tensor) -> Tensor:
    """Return the logits with minus infinity at the view itself and at its other view.

    Args:
        logits: (2B, 2B), as from `similarities`.

    Returns:
        (2B, 2B).
    """
    rows = torch.arange(len(logits), device=logits.device)
    mask = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
    mask[rows, partner_of(logits)] = True
    return logits.masked_fill(mask, -torch.inf)


def corrected(
    logits: Tensor, negatives: Tensor, *, temperature: float, class_prior: float
) -> Tensor:
    """Average -log P / (P + Ng) over views, where Ng corrects the sum of the negatives.

    Args:
        logits: (2B, 2B), as from `similarities`.
        negatives: (2B,) logarithm of the (possibly weighted) sum of exp over N negatives.
        temperature: tau.
        class_prior: c in [0, 1).

    Returns:
        A scalar.

    Raises:
        InputError: When the prior is outside [0, 1).
    """
    if not 0.0 <= class_prior < 1.0:
        raise InputError(f"class_prior {class_prior!r} is not in [0, 1); try 1 / number of classes")
    count = len(logits) - 2
    positive = logits.gather(1, partner_of(logits)[:, None])[:, 0]
    # Relative to the larger of the two, nothing overflows however small tau is.
    top = torch.maximum(positive, negatives).detach()
    share, others = (positive - top).exp(), (negatives - top).exp()
    least = count * (-1.0 / temperature - top).exp()
    wrong = torch.maximum((others - count * class_prior * share) / (1.0 - class_prior), least)
    return (top - positive + (share + wrong).log()).mean()
