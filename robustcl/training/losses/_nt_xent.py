"""Compute the loss of SimCLR."""

from torch import Tensor
from torch.nn import functional

from robustcl.training.losses.similarities import partner_of, similarities


def nt_xent(first: Tensor, second: Tensor, *, temperature: float = 0.5) -> Tensor:
    """Compute the mean normalized temperature-scaled cross entropy over all 2B views.

    For a view i with other view i+: -s_ii+ / tau + log sum_{k != i} exp(s_ik / tau).

    Args:
        first: (B, d) raw embeddings of one view of each image; B >= 2.
        second: (B, d) raw embeddings of the other view, in the same order.
        temperature: tau > 0.

    Returns:
        A scalar. What `similarities` refuses is refused.

    Reference:
        Chen et al., A Simple Framework for Contrastive Learning of Visual Representations,
        ICML 2020, equation 1.
    """
    return nt_xent_of(similarities(first, second, temperature=temperature))


def nt_xent_of(logits: Tensor) -> Tensor:
    """Compute NT-Xent from the logits of all pairs.

    Args:
        logits: (2B, 2B), as from `similarities`.

    Returns:
        A scalar.
    """
    return functional.cross_entropy(logits, partner_of(logits))
