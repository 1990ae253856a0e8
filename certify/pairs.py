"""Form the pairwise margins a_j . f + c_j of an affine head."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.core.classifier import Classifier
from robustcl.core.errors import UnsupportedError


@dataclass(frozen=True, eq=False)
class Pairs:
    """Hold directions and offsets of the predicted class against every class, in float64.

    Args:
        directions: (B, K, d) a_j = w_y - w_j.
        offsets: (B, K) c_j = b_y - b_j.
    """

    directions: Tensor
    offsets: Tensor


def affine_head(classifier: Classifier, *, method: str) -> tuple[Tensor, Tensor]:
    """Return W and b of the head in float64.

    Args:
        classifier: The model.
        method: Who asks, for the message.

    Returns:
        W (K, d) and b (K,).

    Raises:
        UnsupportedError: When the scores are not affine in the embedding.
    """
    affine = classifier.affine_head
    if affine is None:
        raise UnsupportedError(
            f"{method} needs a prototype or linear head, not {type(classifier.head).__name__}; "
            "smoothing:form=vote certifies any classifier"
        )
    weight, bias = affine
    device = next(classifier.buffers()).device
    return weight.detach().double().to(device), bias.detach().double().to(device)


def pairs(weight: Tensor, bias: Tensor, predicted: Tensor) -> Pairs:
    """Subtract the rows of a head.

    Args:
        weight: W (K, d).
        bias: b (K,).
        predicted: (B,) classes.

    Returns:
        The pairs.
    """
    return Pairs(weight[predicted][:, None] - weight, bias[predicted][:, None] - bias)


def margins(pair: Pairs, points: Tensor) -> Tensor:
    """Evaluate a_j . f + c_j.

    Args:
        pair: Directions and offsets.
        points: (B, d) embeddings.

    Returns:
        (B, K) float64 margins.
    """
    return torch.einsum("bkd,bd->bk", pair.directions, points.double()) + pair.offsets
