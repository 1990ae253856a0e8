"""Compute the supervised noise-contrastive loss of SuNCEt."""

import torch
from torch import Tensor

from robustcl.training.losses.similarities import same_class, similarities


def suncet(first: Tensor, second: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Compute SuNCEt over the views of labeled images: the sum over positives inside the log.

    For a labeled view i, with the labeled views k != i and among them the positives p of the same
    label: -log( sum_p exp(s_ip / tau) / sum_k exp(s_ik / tau) ). Unlabeled images are neither
    anchors nor negatives. A same-class view is never repelled. With fewer than two classes among
    the labeled images there is nothing to tell apart and the loss is 0.

    Args:
        first: (B, d) raw embeddings of one view of each image; B >= 2.
        second: (B, d) raw embeddings of the other view, in the same order.
        labels: (B,) integer labels, -1 where unknown.
        temperature: tau > 0.

    Returns:
        A scalar, the mean over labeled views. What `similarities` and `same_class` refuse is
        refused.

    Reference:
        Assran et al., Supervision Accelerates Pre-training in Contrastive Semi-Supervised Learning
        of Visual Representations, 2020.
    """
    return suncet_of(similarities(first, second, temperature=temperature), labels)


def suncet_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute SuNCEt from the logits of all pairs.

    Args:
        logits: (2B, 2B), as from `similarities`.
        labels: (B,) integer labels, -1 where unknown.

    Returns:
        A scalar.
    """
    positive = same_class(labels, len(logits) // 2)
    known = (labels >= 0).repeat(2)
    # Rows of unlabeled views keep their own logits, so that no row is all minus infinity; they
    # are left out of the mean.
    others = logits.masked_fill(known[:, None] & ~known[None, :], -torch.inf)
    attracted = logits.masked_fill(~positive, -torch.inf)
    losses = torch.logsumexp(others, dim=1) - torch.logsumexp(attracted, dim=1)
    return losses.masked_fill(~known, 0.0).sum() / known.sum().clamp_min(1)
