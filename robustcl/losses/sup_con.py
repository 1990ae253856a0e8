"""Compute the supervised contrastive loss."""

import torch
from torch import Tensor

from robustcl.errors import InputError
from robustcl.losses.nt_xent import similarities


def sup_con(first: Tensor, second: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Compute the supervised contrastive loss with the mean over positives outside the log.

    For a view i with the positives P(i), the other views of the same label:
    -(1/|P|) sum_{p in P} [ s_ip / tau - log sum_{k != i} exp(s_ik / tau) ].
    With all labels different it equals `nt_xent`.

    Args:
        first: (B, d) raw embeddings of one view of each image; B >= 2.
        second: (B, d) raw embeddings of the other view, in the same order.
        labels: (B,) integer labels.
        temperature: tau > 0.

    Returns:
        A scalar.

    Raises:
        InputError: When the shapes differ, B is below 2, or the temperature is not positive.

    Reference:
        Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, equation 2.
    """
    if labels.shape != (len(first),):
        raise InputError(f"{len(first)} images have labels of shape {tuple(labels.shape)}")
    logits = similarities(first, second, temperature=temperature)
    both = labels.repeat(2)
    positive = both[:, None] == both[None, :]
    positive.fill_diagonal_(False)
    log_share = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    chosen = log_share.masked_fill(~positive, 0.0)
    return -(chosen.sum(dim=1) / positive.sum(dim=1)).mean()
