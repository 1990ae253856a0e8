"""Compute the supervised contrastive loss."""

import torch
from torch import Tensor

from robustcl.training.losses.similarities import same_class, similarities


def sup_con(first: Tensor, second: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Compute the supervised contrastive loss with the mean over positives outside the log.

    For a view i with the positives P(i), the other views of the same label:
    -(1/|P|) sum_{p in P} [ s_ip / tau - log sum_{k != i} exp(s_ik / tau) ].
    An unlabeled image has one positive, its own other view. With all labels different or unknown
    it equals `nt_xent`.

    Args:
        first: (B, d) raw embeddings of one view of each image; B >= 2.
        second: (B, d) raw embeddings of the other view, in the same order.
        labels: (B,) integer labels, -1 where unknown.
        temperature: tau > 0.

    Returns:
        A scalar. What `similarities` and `same_class` refuse is refused.

    Reference:
        Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, equation 2.
    """
    return sup_con_of(similarities(first, second, temperature=temperature), labels)


def sup_con_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute SupCon from the logits of all pairs.

    Args:
        logits: (2B, 2B), as from `similarities`.
        labels: (B,) integer labels, -1 where unknown.

    Returns:
        A scalar.
    """
    positive = same_class(labels, len(logits) // 2)
    return attraction_of(logits, positive)


def attraction_of(logits: Tensor, positive: Tensor) -> Tensor:
    """Average the log share of each positive, over positives and then over views.

    Args:
        logits: (2B, 2B), as from `similarities`.
        positive: (2B, 2B) booleans with one True per row at least, False on the diagonal.

    Returns:
        A scalar.
    """
    log_share = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    chosen = log_share.masked_fill(~positive, 0.0)
    return -(chosen.sum(dim=1) / positive.sum(dim=1)).mean()
