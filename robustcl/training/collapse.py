"""Watch whether embeddings collapse, align and spread."""

import torch
from torch import Tensor

from robustcl.losses.similarities import unit


def spread(embeddings: Tensor) -> Tensor:
    """Compute sqrt of the summed variance of z = u / |u|.

    Args:
        embeddings: (B, d) raw embeddings.

    Returns:
        A scalar: 0 when all are one point, 1 when their mean is 0.
    """
    return unit(embeddings).var(dim=0, correction=0).sum().sqrt()


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Compute the mean squared distance of z between two views.

    Args:
        first: (B, d) raw embeddings of one view of each image.
        second: (B, d) raw embeddings of the other view.

    Returns:
        A scalar in [0, 4]; 0 when views coincide.

    Reference:
        Wang and Isola, Understanding Contrastive Representation Learning through Alignment and
        Uniformity on the Hypersphere, ICML 2020, section 4.1.1.
    """
    return (unit(first) - unit(second)).square().sum(dim=1).mean()


def uniformity(embeddings: Tensor) -> Tensor:
    """Compute log mean exp(-2 |z_i - z_j|^2) over pairs i < j.

    Args:
        embeddings: (B, d) raw embeddings, B >= 2.

    Returns:
        A scalar <= 0; 0 when all are one point.

    Reference:
        Wang and Isola, ICML 2020, section 4.1.2, with t = 2.
    """
    return torch.pdist(unit(embeddings)).square().mul(-2.0).exp().mean().log()


def effective_rank(embeddings: Tensor) -> Tensor:
    """Compute exp of the entropy of the normalized singular values of z.

    Args:
        embeddings: (B, d) raw embeddings.

    Returns:
        A scalar between 1 and min(B, d): how many directions are in use.

    Reference:
        Roy and Vetterli, The Effective Rank, EUSIPCO 2007, definition 1.
    """
    values = torch.linalg.svdvals(unit(embeddings).double())
    shares = values / values.sum()
    return torch.special.entr(shares).sum().exp()
